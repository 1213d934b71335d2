/** The report as one self-contained page: no script, no network, light and dark, phone and desk. */
import { formatBytes, formatMilliseconds, formatRatio, formatShare, threeDigits } from './format.ts';
import { type Html, html, markup } from './html.ts';
import { pageStyle } from './page-style.ts';
import { type Bar, curvePlot, errorPlot, valuePlot } from './plots.ts';
import type { ModelTotal, Outcome, Report } from './results.ts';
import { subjectTitle } from './table.ts';
import type { Workload } from './workloads.ts';

/** The whole page as text. */
export function renderPage(report: Report): string {
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>heed: ${subjectTitle(report)}</title>
<style>${markup(pageStyle)}</style>
</head>
<body>
<main>
${heading(report)}
${tiles(report)}
${legend(report)}
<div class="plots">${[wholeModel(report), perToken(report), ...perCall(report), curves(report), errors(report), memory(report), limitShares(report)]}</div>
${everything(report)}
${method(report)}
</main>
</body>
</html>
`.text;
}

const nothing = html``;

// ── What the page answers ──────────────────────────────────────────────────────────────────────────────────────────────

function heading(report: Report): Html {
  const { subject, machine, createdAt } = report;
  const best = fastest(report.totals, 'backend');
  const calls = report.workloads.length;
  const where = html`<p class="where">${machine.processor} · ${machine.threads} threads · ${formatBytes(machine.memoryBytes)} · ${machine.runtime} · ${createdAt.slice(0, 16).replace('T', ' ')} UTC</p>`;
  if (best === null) return html`<header><p class="kicker">heed bench</p><h1>${capital(subject.name)}: ${calls} ${calls === 1 ? 'call' : 'calls'} of attention on this machine</h1>${where}</header>`;
  const peer = fastest(report.totals, 'peer');
  const layers = report.workloads.filter(({ phase }) => phase === 'prefill').reduce((sum, { layer }) => sum + layer.count, 0);
  const against = peer === null ? nothing : html` ${peer.competitor} needs ${formatMilliseconds(peer.milliseconds)}, ${comparison(peer.milliseconds / best.milliseconds)}.`;
  const about = [subject.tokens === null ? null : `${subject.tokens} tokens`, layers === 1 ? 'one layer' : `all ${layers} layers`, subject.batch === 1 ? null : `batch ${subject.batch}`, subject.dtype].filter((part) => part !== null).join(', ');
  return html`<header><p class="kicker">heed bench</p>
<h1>Attention of ${subject.name} takes ${formatMilliseconds(best.milliseconds)} on this machine</h1>
<p class="lead">${capital(about)}, with <b>${best.competitor}</b>, the fastest backend here that is right.${against}</p>${where}</header>`;
}

function comparison(ratio: number): string {
  return ratio >= 1 ? `${formatRatio(ratio)} as long` : `${formatShare(ratio)} of that`;
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function fastest(totals: readonly ModelTotal[], role: Outcome['role']): { readonly competitor: string; readonly milliseconds: number } | null {
  const timed = totals.flatMap(({ competitor, role: own, prefillMilliseconds }) => (own === role && prefillMilliseconds !== null ? [{ competitor, milliseconds: prefillMilliseconds }] : []));
  return timed.sort((a, b) => a.milliseconds - b.milliseconds)[0] ?? null;
}

/** The answers in four numbers, about the fastest backend that is right; about all backends where there is no whole model. */
function tiles(report: Report): Html {
  const best = fastest(report.totals, 'backend');
  const own = report.outcomes.filter(({ role, competitor }) => role === 'backend' && (best === null || competitor === best.competitor));
  const perToken = report.totals.find(({ competitor }) => competitor === best?.competitor)?.decodeMilliseconds ?? null;
  const worst = Math.max(...own.map(({ verdict }) => verdict?.worstShare ?? 0));
  const bytes = Math.max(-1, ...own.map(({ peakBytes }) => peakBytes ?? -1));
  const share = Math.max(...own.map(({ limitShare }) => limitShare ?? 0));
  return html`<ul class="tiles">
${perToken === null ? nothing : tile('per generated token', formatMilliseconds(perToken), 'attention of all layers, one new token')}
${tile('exact to', formatShare(worst), 'of the tolerance at worst, against float64')}
${tile('extra memory', bytes < 0 ? '–' : formatBytes(bytes), 'at most, beyond inputs and outputs')}
${tile('share of limit', formatShare(share), 'at best, of what this machine can do')}
</ul>`;
}

function tile(label: string, value: string, note: string): Html {
  return html`<li><span class="label">${label}</span><span class="value">${value}</span><span class="note">${note}</span></li>`;
}

function legend(report: Report): Html {
  return html`<ul class="legend">${competitorsOf(report).map(({ competitor, role }) => html`<li><i style="background:${colorOf(report, competitor)}"></i>${competitor}${role === 'peer' ? html` <small>peer</small>` : nothing}</li>`)}</ul>`;
}

function competitorsOf({ outcomes }: Report): readonly Pick<Outcome, 'competitor' | 'role'>[] {
  return outcomes.filter(({ competitor }, index) => outcomes.findIndex((other) => other.competitor === competitor) === index);
}

const backendColors = 5;
const peerColors = 4;

/** The same colour for a competitor in every plot; backends and peers have families of their own. */
function colorOf(report: Report, competitor: string): string {
  const all = competitorsOf(report);
  const role = all.find((one) => one.competitor === competitor)?.role ?? 'peer';
  const index = all.filter((one) => one.role === role).findIndex((one) => one.competitor === competitor);
  return role === 'backend' ? `var(--backend-${index % backendColors})` : `var(--peer-${index % peerColors})`;
}

// ── Plots ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

function figure(title: string, note: string, svg: string, wide = false): Html {
  return html`<figure${wide ? markup(' class="wide"') : nothing}><figcaption><h2>${title}</h2><p>${note}</p></figcaption>${markup(svg)}</figure>`;
}

function totalBars(report: Report, of: (total: ModelTotal) => number | null): readonly Bar[] {
  return report.totals
    .flatMap((total) => {
      const value = of(total);
      return value === null ? [] : [{ label: total.competitor, value, color: colorOf(report, total.competitor), text: formatMilliseconds(value) }];
    })
    .sort((a, b) => a.value - b.value);
}

function wholeModel(report: Report): Html {
  const bars = totalBars(report, ({ prefillMilliseconds }) => prefillMilliseconds);
  if (bars.length === 0) return nothing;
  const { tokens } = report.subject;
  return figure('The whole model', `Attention of every layer${tokens === null ? '' : ` over a prompt of ${tokens} tokens`}; less is better.`, valuePlot(bars, 'time of the whole model'));
}

function perToken(report: Report): Html {
  const bars = totalBars(report, ({ decodeMilliseconds }) => decodeMilliseconds);
  if (bars.length === 0) return nothing;
  return figure('Each generated token', `Attention of every layer for one new token, at the mean cache length over ${report.subject.decode} generated ones; less is better.`, valuePlot(bars, 'time per generated token'));
}

/** One figure for each layer shape (or each call of a suite), where there is more than the whole model tells. */
function perCall(report: Report): readonly Html[] {
  const calls = report.workloads.filter(({ phase }) => phase !== 'curve');
  return calls.map((workload) => {
    const bars = timed(report, workload.id)
      .map(({ outcome, median }) => ({ label: outcome.competitor, value: median, color: colorOf(report, outcome.competitor), text: `${formatMilliseconds(median)} · ${threeDigits(outcome.usefulGigaflopsPerSecond ?? Number.NaN)} GFLOP/s` }))
      .sort((a, b) => a.value - b.value);
    if (bars.length === 0) return nothing;
    const part = workload.layer.count > 1 ? ` One layer of ${workload.layer.count}.` : '';
    return figure(callTitle(workload), `${capital(shapeText(workload))}.${part} Less is better.`, valuePlot(bars, workload.id));
  });
}

function timed(report: Report, id: string): readonly { readonly outcome: Outcome; readonly median: number }[] {
  return report.outcomes.flatMap((outcome) => (outcome.workload === id && outcome.timing !== null ? [{ outcome, median: outcome.timing.median }] : []));
}

/** `Layer self, prompt` or, in a suite, `prefill-causal`. */
function callTitle({ id, suite, phase, layer }: Workload): string {
  if (suite !== 'model') return id.split('?')[0] ?? id;
  return `Layer ‘${layer.name}’, ${phase === 'decode' ? 'one new token' : 'prompt'}`;
}

function shapeText({ layer, batch, queryLength, keyLength }: Workload): string {
  const { heads, keyHeads, queryDim, valueDim, mask, softcap, sink, position, normalization, scoring } = layer;
  const masks = { all: 'no mask', causal: 'causal', 'causal-window': `window ${mask.kind === 'causal-window' ? mask.left + 1 : ''}` } as const;
  return [
    batch > 1 ? `batch ${batch}` : null,
    queryLength === keyLength ? `${queryLength} tokens` : `${queryLength} on ${keyLength} keys`,
    heads === keyHeads ? `${heads} ${heads === 1 ? 'head' : 'heads'}` : `${heads} heads on ${keyHeads}`,
    queryDim === valueDim ? `dim ${queryDim}` : `dims ${queryDim} and ${valueDim}`,
    masks[mask.kind],
    scoring.kind === 'additive' ? `additive, width ${scoring.width}` : null,
    softcap === null ? null : `softcap ${softcap}`,
    sink ? 'sink' : null,
    position.kind === 'alibi' ? 'ALiBi' : null,
    position.kind === 'decomposed' ? `relative positions ${position.side} × ${position.side}` : null,
    normalization === 'softmax' ? null : normalization,
  ]
    .filter((part) => part !== null)
    .join(', ');
}

function curves(report: Report): Html {
  const shortened = report.workloads.find(({ phase }) => phase === 'curve');
  if (shortened === undefined) return nothing;
  const along = report.workloads.filter(({ phase, layer }) => phase !== 'decode' && layer.name === shortened.layer.name).sort((a, b) => a.keyLength - b.keyLength);
  const points = along.flatMap(({ id, keyLength }) => timed(report, id).map(({ outcome, median }) => ({ name: outcome.competitor, color: colorOf(report, outcome.competitor), tokens: keyLength, milliseconds: median })));
  if (points.length === 0) return nothing;
  return figure('How it grows', `Time of one layer ‘${shortened.layer.name}’ over the length of the prompt, both axes logarithmic; lower is better.`, curvePlot(points, 'time over tokens'));
}

/** The worst over the workloads of each competitor. */
function errors(report: Report): Html {
  const points = competitorsOf(report).flatMap(({ competitor }) =>
    report.outcomes.flatMap(({ competitor: other, verdict, workload }) =>
      other === competitor && verdict !== null
        ? [{ label: competitor, color: colorOf(report, competitor), share: verdict.worstShare, title: `${workload}: ${formatShare(verdict.worstShare)} of the tolerance, largest absolute error ${verdict.maxAbsError.toExponential(1)}` }]
        : [],
    ),
  );
  if (points.length === 0) return nothing;
  return figure('How exact', 'Largest error of each call against the float64 reference, as a share of the tolerance. Right of the line is wrong, and is not timed.', errorPlot(points, 'error over tolerance'));
}

/** The call that takes the most memory on any competitor. */
function memory(report: Report): Html {
  const [largest] = report.outcomes.filter(({ peakBytes }) => peakBytes !== null).sort((a, b) => (b.peakBytes ?? 0) - (a.peakBytes ?? 0));
  const workload = report.workloads.find(({ id }) => id === largest?.workload);
  if (workload === undefined) return nothing;
  const scores = workload.batch * workload.layer.heads * workload.queryLength * workload.keyLength * 4;
  const bars = report.outcomes
    .flatMap(({ workload: id, competitor, peakBytes }) => (id === workload.id && peakBytes !== null ? [{ label: competitor, value: peakBytes, color: colorOf(report, competitor), text: formatBytes(peakBytes) }] : []))
    .sort((a, b) => a.value - b.value);
  const all = [...bars, { label: 'every score', value: scores, color: 'var(--axis)', text: formatBytes(scores) }];
  return figure('How large', `Peak memory beyond inputs and outputs, for ${shapeText(workload)}. “Every score” is what a queries × keys table would take.`, valuePlot(all, 'peak memory'));
}

function limitShares(report: Report): Html {
  const best = competitorsOf(report).flatMap(({ competitor }) => {
    const shares = report.outcomes.flatMap(({ competitor: other, limitShare }) => (other === competitor && limitShare !== null ? [limitShare] : []));
    const share = Math.max(...shares);
    return shares.length === 0 ? [] : [{ label: competitor, value: share, color: colorOf(report, competitor), text: formatShare(share) }];
  });
  if (best.length === 0) return nothing;
  return figure('Share of the limit', 'Best call of each: the least time that the measured arithmetic and bandwidth of its limit allow, over the time it took. More is better.', valuePlot(best.sort((a, b) => b.value - a.value), 'share of the limit'));
}

// ── Everything else ────────────────────────────────────────────────────────────────────────────────────────────────────

const columns = ['by', 'median', 'least … most', 'runs', 'GFLOP/s', 'GB/s', 'of limit', 'prepared', 'memory', 'largest error', 'of tolerance', 'checked'] as const;

function everything(report: Report): Html {
  const groups = report.workloads.map(
    ({ id }) => html`<tbody><tr><th colspan="${columns.length}" class="call">${id}</th></tr>${report.outcomes.filter(({ workload }) => workload === id).map(row)}</tbody>`,
  );
  return html`<section><h2>Every number</h2><div class="scroll"><table><thead><tr>${columns.map((column) => html`<th>${column}</th>`)}</tr></thead>${groups}</table></div></section>`;
}

function row({ competitor, way, timing, verdict, refusal, usefulGigaflopsPerSecond, gigabytesPerSecond, limitShare, compiling, peakBytes }: Outcome): Html {
  const checked = verdict === null ? '' : verdict.compared === verdict.elements ? 'all' : formatShare(verdict.compared / verdict.elements);
  const error = verdict === null ? html`<td></td><td></td><td></td>` : html`<td>${verdict.maxAbsError.toExponential(1)}</td><td${verdict.passed ? nothing : markup(' class="bad"')}>${formatShare(verdict.worstShare)}</td><td>${checked}</td>`;
  if (timing === null) return html`<tr><td>${competitor}</td><td colspan="8" class="refusal">${refusal}</td>${error}</tr>`;
  const number = (value: number | null, format: (value: number) => string): Html => html`<td>${value === null ? '–' : format(value)}</td>`;
  return html`<tr><td>${competitor}${way === null ? nothing : html` <small>${way}</small>`}</td><td><b>${formatMilliseconds(timing.median)}</b></td><td>${formatMilliseconds(timing.min)} … ${formatMilliseconds(timing.max)}</td><td>${timing.runs}</td>${number(usefulGigaflopsPerSecond, threeDigits)}${number(gigabytesPerSecond, threeDigits)}${number(limitShare, formatShare)}<td>${compiling === null ? '–' : `${formatMilliseconds(compiling.cold)}, ${formatMilliseconds(compiling.cached)}`}</td>${number(peakBytes, formatBytes)}${error}</tr>`;
}

function method(report: Report): Html {
  const { machine, limits } = report;
  const rows = Object.entries(limits).map(([name, limit]) => html`<tr><td>${name}</td><td>${limit.description}</td><td>${limit.threads}</td><td>${threeDigits(limit.gigaflopsPerSecond)} GFLOP/s</td><td>${threeDigits(limit.readGigabytesPerSecond)} GB/s</td><td>${threeDigits(limit.copyGigabytesPerSecond)} GB/s</td></tr>`);
  return html`<section class="method"><h2>Machine, limits and method</h2>
<p>${machine.processor}, ${machine.platform}, ${machine.runtime}, ${machine.engine}.</p>
<ul>${report.competitors.map(({ name, about }) => html`<li><b>${name}</b>: ${about}</li>`)}</ul>
<div class="scroll"><table><thead><tr><th>limit</th><th>what</th><th>threads</th><th>multiply-add</th><th>read</th><th>copy</th></tr></thead><tbody>${rows}</tbody></table></div>
<ul>
<li>First right, then fast: each call is compared with the float64 reference before it is timed, by the tolerance of the conformance suite: a bound on |got − want| that grows with the square roots of width and length, as rounding errors do. What fails is not timed. Large results are compared on the first and last heads and evenly spaced rows; “checked” says how much.</li>
<li>Competitors take turns within one run. A time is the median of a call with inputs in place and outputs reused; compiling and copying in are not in it; “prepared” is what emitting and compiling took, the first time and again from the cache.</li>
<li>FLOP counts 2 · allowed pairs · (key width + value width); exponentials are not counted. GB counts query, key, value and output once.</li>
<li>Rotary and learned positions act before the timed call, as in a model whose cache holds rotated keys. Inputs are random N(0, 1) unless a file was given.</li>
<li>Memory is the growth of a fresh process over one call, or what the runtime itself counted, whichever is more, less the result; good to about a mebibyte.</li>
</ul></section>`;
}
