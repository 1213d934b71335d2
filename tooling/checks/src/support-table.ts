/** The part of a conformance report that the table reads. */
export interface ConformanceReport {
  readonly backend: string;
  readonly cases: Readonly<Record<string, { readonly id: string; readonly area: string; readonly passed: boolean; readonly mode: 'direct' | 'refusal' }>>;
}

/** Areas of the suite whose cases are named after variants: those of the pipeline in its order, then the rules of fast weights. */
const areas: Readonly<Record<string, string>> = {
  scoring: 'scoring',
  transforms: 'row transforms',
  modifiers: 'score modifiers',
  masking: 'masks',
  normalization: 'normalization and reweighing',
  aggregation: 'aggregation',
  'fast-weights': 'rules of fast weights',
};

type Verdict = 'yes' | 'refused' | 'wrong';

/** Variants × backends as Markdown: a summary by stage, then every variant in a part that folds open. */
export function supportTable(reports: readonly ConformanceReport[]): string {
  const backends = [...reports].sort((a, b) => Number(b.backend === 'reference') - Number(a.backend === 'reference') || a.backend.localeCompare(b.backend));
  const verdicts = new Map(backends.map((report) => [report.backend, verdictsOf(report)]));
  const names = (area: string): readonly string[] => [...new Set(backends.flatMap((report) => [...(verdicts.get(report.backend)?.keys() ?? [])]))].filter((key) => key.startsWith(`${area}/`));
  const verdict = (backend: string, key: string): Verdict | undefined => verdicts.get(backend)?.get(key);
  const header = (first: string): readonly string[] => [`| ${first} | ${backends.map(({ backend }) => backend).join(' | ')} |`, `|---|${backends.map(() => '---|').join('')}`];
  const summary = Object.entries(areas).map(([area, title]) => {
    const own = names(area);
    return `| ${title} | ${backends.map(({ backend }) => `${own.filter((key) => verdict(backend, key) === 'yes').length} of ${own.length}`).join(' | ')} |`;
  });
  const marks: Readonly<Record<Verdict, string>> = { yes: '✓', refused: '–', wrong: '✗' };
  const rows = Object.keys(areas).flatMap((area) => names(area).map((key) => `| ${key.replace('/', ': ')} | ${backends.map(({ backend }) => marks[verdict(backend, key) ?? 'refused']).join(' | ')} |`));
  return [...header('variants of'), ...summary, '', '<details><summary>Every variant</summary>', '', '✓ agrees with the reference within the stated tolerance · – refused with a reason · ✗ wrong', '', ...header('variant'), ...rows, '', '</details>'].join('\n');
}

/** `area/name` → what came out of its cases together: wrong if one failed, refused if one was. */
function verdictsOf(report: ConformanceReport): ReadonlyMap<string, Verdict> {
  const result = new Map<string, Verdict>();
  for (const { id, area, passed, mode } of Object.values(report.cases)) {
    if (!(area in areas)) continue;
    const key = id.split('?')[0] ?? id;
    const own: Verdict = !passed ? 'wrong' : mode === 'direct' ? 'yes' : 'refused';
    const worst = [result.get(key) ?? 'yes', own];
    result.set(key, worst.includes('wrong') ? 'wrong' : worst.includes('refused') ? 'refused' : 'yes');
  }
  return result;
}
