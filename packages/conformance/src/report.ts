import type { Case, Kind, Law } from './case.ts';
import type { Difference } from './compare.ts';
import { shareText } from './difference-text.ts';

/** direct: the case itself ran. refusal: the backend lacks what it needs, and its refusal was tested. */
export type Mode = 'direct' | 'refusal';

export interface CaseResult {
  readonly id: string;
  readonly area: string;
  readonly kind: Kind;
  readonly laws: readonly Law[];
  readonly passed: boolean;
  readonly mode: Mode;
  readonly milliseconds: number;
  /** Worst error of all comparisons; null where nothing was compared by a tolerance. */
  readonly worst: Pick<Difference, 'absolute' | 'relative' | 'ulp' | 'share'> | null;
  /** Why it failed. */
  readonly message?: string;
  /** What the values that failed are off by, where it is one factor: got = factor · expected, within the bound. */
  readonly factor?: number;
  /** Why it was refused. */
  readonly refusal?: string;
}

export interface Report {
  readonly schema: 1;
  readonly backend: string;
  readonly passed: number;
  readonly failed: number;
  /** Of those that passed: how many tested a refusal. */
  readonly refused: number;
  readonly milliseconds: number;
  readonly cases: Readonly<Record<string, CaseResult>>;
}

export function makeReport(backend: string, results: readonly CaseResult[], milliseconds: number): Report {
  const passed = results.filter((result) => result.passed);
  return {
    schema: 1,
    backend,
    passed: passed.length,
    failed: results.length - passed.length,
    refused: passed.filter((result) => result.mode === 'refusal').length,
    milliseconds,
    cases: Object.fromEntries(results.map((result) => [result.id, result])),
  };
}

/** The report as JUnit XML, one test suite for each area, for machines that show test results. */
export function toJUnit(report: Report): string {
  const results = Object.values(report.cases);
  const areas = [...new Set(results.map((result) => result.area))];
  const suites = areas.map((area) => {
    const own = results.filter((result) => result.area === area);
    const failures = own.filter((result) => !result.passed).length;
    return [`  <testsuite name="${escapeXml(area)}" tests="${own.length}" failures="${failures}">`, ...own.map(junitCase), '  </testsuite>'].join('\n');
  });
  const header = `<testsuites name="heed-conformance ${escapeXml(report.backend)}" tests="${results.length}" failures="${report.failed}" time="${(report.milliseconds / 1000).toFixed(3)}">`;
  return ['<?xml version="1.0" encoding="UTF-8"?>', header, ...suites, '</testsuites>', ''].join('\n');
}

function junitCase(result: CaseResult): string {
  const open = `    <testcase classname="${escapeXml(result.area)}" name="${escapeXml(result.id)}" time="${(result.milliseconds / 1000).toFixed(4)}"`;
  if (!result.passed) return `${open}><failure message="${escapeXml(result.message ?? '')}"/></testcase>`;
  return result.refusal === undefined ? `${open}/>` : `${open}><system-out>refused: ${escapeXml(result.refusal)}</system-out></testcase>`;
}

function escapeXml(text: string): string {
  const named: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
  return text.replaceAll(/[&<>"]/g, (character) => named[character] ?? character).replaceAll(/\p{Cc}/gu, ' ');
}

/** Failures that the table shows; the reports for machines have all. */
const shownFailures = 20;

/** One line for each area (or law): passed, refused, failed, worst error, also as a share of its bound; then the failures, and what they have in common. For people. */
export function toTable(report: Report): string {
  const results = Object.values(report.cases);
  const groups = new Map<string, CaseResult[]>();
  for (const result of results) {
    const group = result.area === 'laws' ? (result.id.split('?')[0] ?? result.id) : result.area;
    groups.set(group, [...(groups.get(group) ?? []), result]);
  }
  const rows = [...groups].map(([group, own]) => {
    const worst = own.reduce((most, result) => Math.max(most, Number.isFinite(result.worst?.share) ? (result.worst?.absolute ?? 0) : 0), 0);
    const share = own.reduce((most, result) => Math.max(most, result.worst?.share ?? 0), 0);
    return [
      group,
      String(own.filter((result) => result.passed && result.mode === 'direct').length),
      String(own.filter((result) => result.passed && result.mode === 'refusal').length),
      String(own.filter((result) => !result.passed).length),
      worst === 0 ? '0' : worst.toExponential(1),
      shareText(share),
    ];
  });
  const failed = results.filter((result) => !result.passed);
  const left = failed.length - shownFailures;
  return [
    alignColumns([['area', 'passed', 'refused', 'failed', 'worst error', 'of its bound'], ...rows]),
    ...failed.slice(0, shownFailures).map(failureText),
    ...(left > 0 ? [`… and ${left} more: see --json`] : []),
    ...commonCause(failed),
  ].join('\n');
}

export function failureText(result: CaseResult): string {
  return `FAILED ${result.id}\n       ${result.message ?? ''}`;
}

/** Factors closer than this, relatively, count as one; a factor this close to 1 says nothing. */
const factorSpread = 2e-3;

/** A line that names the factor by which two failures or more, and at least half of them, are off. */
function commonCause(failed: readonly CaseResult[]): readonly string[] {
  const factors = failed.flatMap(({ factor }) => (factor === undefined ? [] : [factor])).sort((a, b) => a - b);
  const middle = factors[Math.floor(factors.length / 2)];
  if (middle === undefined || Math.abs(middle - 1) <= factorSpread) return [];
  const sharing = factors.filter((factor) => Math.abs(factor - middle) <= factorSpread * Math.max(1, Math.abs(middle))).length;
  if (sharing < 2 || 2 * sharing < failed.length) return [];
  const who = sharing === failed.length ? 'All failures' : `${sharing} of ${failed.length} failures`;
  return [`${who} are off by the factor ${Number(middle.toPrecision(3))}.`];
}

/** Rows of cells as text; the first `left` columns to the left, the others to the right. */
export function alignColumns(rows: readonly (readonly string[])[], left = 1): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => (row[column] ?? '').length)));
  return rows.map((row) => row.map((cell, column) => (column < left ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0))).join('  ').trimEnd()).join('\n');
}

/** The plan alone: for each case its id, what it does, and its laws, needs and bound; then the formula of each bound. */
export function toPlan(cases: readonly Case[]): string {
  const plans = cases.map((one) => {
    const facts = [one.laws.length === 0 ? null : `laws ${one.laws.join(', ')}`, `needs ${one.needs.join(', ')}`, `bound ${one.tolerance.name}`, `seed ${one.seed}`];
    return `${one.id}\n  ${one.plan}\n  ${facts.filter((fact) => fact !== null).join('; ')}`;
  });
  const bounds = new Map(cases.map(({ tolerance }) => [tolerance.name, tolerance.formula]));
  return [...plans, 'Bounds', ...[...bounds].map(([name, formula]) => `  ${name}: ${formula}`)].join('\n');
}
