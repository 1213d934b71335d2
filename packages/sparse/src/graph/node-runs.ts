/** A run of query rows, first … end − 1, with the edges that they have. */
export interface NodeRun {
  readonly first: number;
  readonly end: number;
  readonly edges: number;
}

/** What a row costs beside its edges, in edges. */
const rowCost = 8;

/**
 * Rows in runs of about equal work: each has `edges` edges or more, unless the rows end. Runs with one very busy node stand first, since nothing can be done beside
 * the last run; the others follow in order, so that neighbours stay neighbours.
 *
 * @param starts where each row's edges begin in the list; one more than there are rows
 */
export function nodeRuns(starts: ArrayLike<number>, edges: number): readonly NodeRun[] {
  const rows = starts.length - 1;
  const runs: NodeRun[] = [];
  let first = 0;
  for (let row = 0; row < rows; row += 1) {
    const own = (starts[row + 1] ?? 0) - (starts[first] ?? 0);
    if (own + (row + 1 - first) * rowCost < edges && row + 1 < rows) continue;
    runs.push({ first, end: row + 1, edges: own });
    first = row + 1;
  }
  const isLong = (run: NodeRun): boolean => run.edges > 4 * edges;
  return runs.some(isLong) ? [...runs.filter(isLong).sort((a, b) => b.edges - a.edges), ...runs.filter((run) => !isLong(run))] : runs;
}

/** The most edges of one row. */
export function busiestNode(starts: ArrayLike<number>): number {
  let most = 0;
  for (let row = 1; row < starts.length; row += 1) most = Math.max(most, (starts[row] ?? 0) - (starts[row - 1] ?? 0));
  return most;
}
