import { formatBytes, formatMilliseconds, formatRatio, formatShare, threeDigits } from './format.ts';
import type { Outcome, Report } from './results.ts';

/** The whole report as text for a terminal. */
export function renderTable(report: Report): string {
  const { machine } = report;
  return [
    `${subjectTitle(report)} on ${machine.processor}, ${machine.threads} threads, ${machine.runtime}`,
    ...Object.entries(report.limits).map(([name, limit]) => `limit ${name}: ${threeDigits(limit.gigaflopsPerSecond)} GFLOP/s, read ${threeDigits(limit.readGigabytesPerSecond)} GB/s, copy ${threeDigits(limit.copyGigabytesPerSecond)} GB/s`),
    ...report.competitors.map(({ name, about }) => `${name}: ${about}`),
    '',
    ...columns([header, ...report.workloads.flatMap((workload) => workloadRows(report, workload.id, workload.phase === 'curve' ? 1 : workload.layer.count))]),
    legend,
    '',
    ...columns(totalRows(report)),
    '',
  ].join('\n');
}

/** `attention of gpt2, 256 tokens, f32` */
export function subjectTitle({ subject }: Pick<Report, 'subject'>): string {
  const parts = [subject.name, subject.tokens === null ? null : `${subject.tokens} tokens`, subject.batch === 1 ? null : `batch ${subject.batch}`, subject.dtype];
  return `attention of ${parts.filter((part) => part !== null).join(', ')}`;
}

const header: readonly string[] = ['workload', 'by', 'median', 'min … max', 'GFLOP/s', 'GB/s', 'of limit', 'prepared', 'memory', 'error / tolerance', 'than peer'];

const legend = '×12: twelve layers make this call. error / tolerance: the worst error as a share of what the conformance suite allows, and in brackets as it is.';

function workloadRows(report: Report, id: string, count: number): readonly (readonly string[])[] {
  return report.outcomes
    .filter(({ workload }) => workload === id)
    .map((outcome, index) => [index === 0 ? `${id}${count > 1 ? ` ×${count}` : ''}` : '', outcome.competitor, ...cells(outcome, fastestPeer(report, outcome))]);
}

function fastestPeer({ records }: Report, { workload, competitor }: Outcome): string {
  const ratios = records.filter((record) => record.workload === workload && record.backend === competitor && record.ratio !== null).map(({ ratio, peer }) => ({ ratio: ratio ?? 0, peer: peer ?? '' }));
  const worst = ratios.sort((a, b) => a.ratio - b.ratio)[0];
  return worst === undefined ? '' : `${formatRatio(worst.ratio)} ${worst.peer}`;
}

function cells(outcome: Outcome, ratio: string): readonly string[] {
  const { timing, verdict, refusal } = outcome;
  if (timing === null) return [refusal ?? ''];
  return [
    formatMilliseconds(timing.median),
    `${formatMilliseconds(timing.min)} … ${formatMilliseconds(timing.max)}`,
    outcome.usefulGigaflopsPerSecond === null ? '' : threeDigits(outcome.usefulGigaflopsPerSecond),
    outcome.gigabytesPerSecond === null ? '' : threeDigits(outcome.gigabytesPerSecond),
    outcome.limitShare === null ? '' : formatShare(outcome.limitShare),
    outcome.compiling === null ? '' : `${formatMilliseconds(outcome.compiling.cold)}, ${formatMilliseconds(outcome.compiling.cached)}`,
    outcome.peakBytes === null ? '' : formatBytes(outcome.peakBytes),
    verdict === null ? '' : `${formatShare(verdict.worstShare)} (${verdict.maxAbsError.toExponential(1)})`,
    [ratio, outcome.way === null ? '' : `(${outcome.way})`].filter((part) => part !== '').join(' '),
  ];
}

function totalRows({ totals, subject: { decode } }: Report): readonly (readonly string[])[] {
  const shown = (milliseconds: number | null): string => (milliseconds === null ? '–' : formatMilliseconds(milliseconds));
  if (totals.length === 0) return [];
  if (decode === 0) return [['whole model', 'all layers'], ...totals.map(({ competitor, prefillMilliseconds }) => [competitor, shown(prefillMilliseconds)])];
  const rows = totals.map(({ competitor, prefillMilliseconds: prefill, decodeMilliseconds: perToken }) => {
    const all = prefill === null || perToken === null ? null : prefill + perToken * decode;
    return [competitor, shown(prefill), shown(perToken), shown(all)];
  });
  return [['whole model', 'prompt', 'per generated token', `with ${decode} generated`], ...rows];
}

/** Pads every column to its widest cell; a row's last cell may be as long as it likes. */
function columns(rows: readonly (readonly string[])[]): readonly string[] {
  const widths = rows.reduce<readonly number[]>((widest, row) => {
    const own = row.map((cell, column) => (column === row.length - 1 ? 0 : cell.length));
    return Array.from({ length: Math.max(widest.length, own.length) }, (_, column) => Math.max(widest[column] ?? 0, own[column] ?? 0));
  }, []);
  return rows.map((row) => row.map((cell, column) => (column === row.length - 1 ? cell : cell.padEnd(widths[column] ?? 0))).join('  ').trimEnd());
}
