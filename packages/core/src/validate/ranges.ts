import type { BoundCall, BoundSequence, BoundTable } from '../bind.ts';
import { AttentionError } from '../errors.ts';
import type { BoundEnvironment, Interval } from '../expression/bound.ts';
import { bound, everything } from '../expression/bound.ts';
import type { Expression, InputName, Operation } from '../expression/node.ts';
import { walk } from '../expression/node.ts';
import { print } from '../expression/print.ts';
import { tableInterval } from './table-interval.ts';
import type { Site } from './structure.ts';

type Call = Pick<BoundCall, 'heads' | 'keyHeads' | 'scoreDim' | 'sequences' | 'uniforms' | 'tables' | 'edges' | 'keysTransformed'>;

/**
 * Proves by interval arithmetic that every table is read inside its axes and every integer division has a positive divisor, whatever row, key, head
 * and channel the call computes. First over all sequences at once, then, where that is too coarse, one by one.
 *
 * @throws AttentionError `table-out-of-range` naming the read and how to clamp it; `invalid-uniform` for a divisor that is not positive
 */
export function checkRanges(call: Call, obligations: readonly Site[]): void {
  for (const site of obligations) {
    if (call.keysTransformed && site.side === 'key') continue;
    const sequences = call.sequences.filter((sequence) => isComputed(site, sequence));
    if (sequences.length === 0 || findFault(call, site, sequences) === null) continue;
    for (const sequence of sequences) {
      const fault = findFault(call, site, [sequence]);
      if (fault !== null) throw fault;
    }
  }
}

/** An expression is computed where it has rows to stand at. */
function isComputed({ slot, side }: Site, { queryLength, keyLength }: BoundSequence): boolean {
  if (slot === 'transform') return side === 'query' ? queryLength > 0 : keyLength > 0;
  return slot === 'prepare' ? keyLength > 0 : queryLength > 0 && keyLength > 0;
}

function findFault(call: Call, site: Site, sequences: readonly BoundSequence[]): AttentionError | null {
  const at = environment(call, site, sequences);
  for (const node of walk(site.expression)) {
    if (node.kind === 'operation' && (node.operator === 'floorDiv' || node.operator === 'mod')) {
      const fault = divisorFault(node, at);
      if (fault !== null) return fault;
    }
    const table = node.kind === 'table' || node.kind === 'queryTable' ? call.tables[node.name] : undefined;
    if (table === undefined) continue;
    const indices = node.kind === 'table' ? node.indices : node.kind === 'queryTable' ? [node.row] : [];
    // A query table's own axes before and after the row are the head and the channel, which the bind has checked.
    const axisOf = (position: number): number => (node.kind === 'table' ? position : table.sizes.length - 2);
    for (const [position, index] of indices.entries()) {
      const fault = indexFault(node, index, bound(index, at), table, axisOf(position));
      if (fault !== null) return fault;
    }
  }
  return null;
}

function divisorFault(node: Operation, at: BoundEnvironment): AttentionError | null {
  const divisor = node.operands[1];
  if (divisor === undefined || bound(divisor, at).low >= 1) return null;
  return new AttentionError('invalid-uniform', `${print(node)} divides by ${print(divisor)}, which is not known to be positive.`, 'Give the uniform a positive value, or write max(divisor, 1).');
}

function indexFault(node: Expression, index: Expression, range: Interval, table: BoundTable, axis: number): AttentionError | null {
  const size = table.sizes[axis] ?? 0;
  if (range.low >= 0 && range.high <= size - 1) return null;
  return new AttentionError(
    'table-out-of-range',
    `${print(node)} reads index ${printInterval(range)} of axis ${axis} (${String(table.declaration.axes[axis])}), which has ${size} elements; the index is ${print(index)}.`,
    size === 0 ? 'The table is empty.' : `Make the table longer, or clamp the index where it is written: index.max(0).min(${size - 1}).`,
  );
}

function printInterval({ low, high }: Interval): string {
  return low === high ? String(low) : `${low} … ${high}`;
}

function environment(call: Call, site: Site, sequences: readonly BoundSequence[]): BoundEnvironment {
  return {
    input: (name) => inputInterval(name, call, site, sequences),
    uniform: (name) => call.uniforms[name] ?? Number.NaN,
    table: (name, indices) => {
      const table = call.tables[name];
      return table === undefined ? everything : tableInterval(table, indices);
    },
  };
}

function inputInterval(name: InputName, call: Call, site: Site, sequences: readonly BoundSequence[]): Interval {
  const over = (low: (sequence: BoundSequence) => number, high: (sequence: BoundSequence) => number): Interval => ({
    low: sequences.reduce((least, sequence) => Math.min(least, low(sequence)), Infinity),
    high: sequences.reduce((most, sequence) => Math.max(most, high(sequence)), -Infinity),
  });
  const queries = ({ queryPositions, queryOffset, queryLength }: BoundSequence): Interval => positionInterval(queryPositions, queryOffset, 0, queryLength);
  const keys = ({ keyPositions, keyOffset, keyLength }: BoundSequence): Interval => positionInterval(keyPositions, keyOffset, 0, keyLength);
  const queryRows = (): Interval => over(() => 0, ({ queryLength }) => queryLength - 1);
  const keyRows = (): Interval => over(() => 0, ({ keyLength }) => keyLength - 1);
  const queryPlaces = (): Interval => over((sequence) => queries(sequence).low, (sequence) => queries(sequence).high);
  const keyPlaces = (): Interval => over((sequence) => keys(sequence).low, (sequence) => keys(sequence).high);
  switch (name) {
    case 'batch':
      return over(({ batch }) => batch, ({ batch }) => batch);
    case 'head':
      return { low: 0, high: (site.side === 'key' ? call.keyHeads : call.heads) - 1 };
    case 'keyHead':
      return { low: 0, high: call.keyHeads - 1 };
    case 'queryIndex':
      return queryRows();
    case 'keyIndex':
      return keyRows();
    case 'edgeIndex':
      return { low: 0, high: (call.edges?.keys.shape[0] ?? 0) - 1 };
    case 'index':
      return site.side === 'key' ? keyRows() : queryRows();
    case 'queryPosition':
      return queryPlaces();
    case 'keyPosition':
      return keyPlaces();
    case 'position':
      return site.side === 'key' ? keyPlaces() : queryPlaces();
    case 'queryLength':
      return over(({ queryLength }) => queryLength, ({ queryLength }) => queryLength);
    case 'keyLength':
      return over(({ totalKeyLength }) => totalKeyLength, ({ totalKeyLength }) => totalKeyLength);
    case 'channel':
      return { low: 0, high: site.width - 1 };
    case 'score':
    case 'weight':
    case 'value':
    case 'output':
    case 'queryElement':
    case 'keyElement':
    case 'element':
      return everything;
  }
}

/** Positions of rows start … end − 1 of a sequence. */
export function positionInterval(positions: Int32Array | null, offset: number, start: number, end: number): Interval {
  if (positions === null) return { low: offset + start, high: offset + end - 1 };
  let low = Infinity;
  let high = -Infinity;
  for (let row = start; row < end; row++) {
    const position = positions[row] ?? 0;
    if (position < low) low = position;
    if (position > high) high = position;
  }
  return { low, high };
}
