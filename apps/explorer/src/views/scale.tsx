import { attention, dot, scaledDot, tensor } from '@heed/core';
import { distributions, drawInputs, RandomSource } from '@heed/conformance';
import { binX, dotX, lineY, rectY, ruleY, type RectYOptions } from '@observablehq/plot';
import { useMemo, useState, type ReactElement } from 'react';
import { Figure } from '../components/figure.tsx';
import { entropies } from '../model/effect.ts';
import { shown } from '../model/formula.ts';
import { SideCalls } from '../model/side-call.ts';
import { plain } from '../model/variant.ts';
import { useLater } from '../state/use-later.ts';

const dims = [2, 4, 8, 16, 32, 64, 128, 256];
const keys = 64;
const named = { plain: 'q · k', scaled: 'q · k / √d' } as const;

interface Spread {
  readonly dim: number;
  readonly scaled: boolean;
  /** Scores of all pairs. */
  readonly scores: Float32Array;
  /** The largest weight of each row. */
  readonly largest: readonly number[];
  /** Standard deviation of the scores. */
  readonly deviation: number;
  /** Mean entropy of the rows, as the number of keys that would be equally heavy. */
  readonly support: number;
}

/** Random rows of growing width, with and without the division by √d. */
async function spreads(calls: SideCalls): Promise<readonly Spread[]> {
  const shape = { batch: 1, heads: 1, keyHeads: 1, queryLength: 32, keyLength: keys, valueDim: 1 };
  return Promise.all(dims.flatMap((dim) => [false, true].map(async (scaled) => {
    const { query, key } = drawInputs(new RandomSource(dim), { ...shape, queryDim: dim, keyDim: dim });
    const value = tensor(new Float32Array(keys), [1, 1, keys, 1]);
    const { stages } = await calls.run(plain(attention({ scoring: scaled ? scaledDot() : dot() })), { query, key, value });
    const mean = stages.scores.reduce((sum, score) => sum + score, 0) / stages.scores.length;
    const deviation = Math.sqrt(stages.scores.reduce((sum, score) => sum + (score - mean) ** 2, 0) / stages.scores.length);
    const rows = entropies(stages.weights, keys);
    const largest = Array.from({ length: stages.weights.length / keys }, (_, row) => stages.weights.subarray(row * keys, (row + 1) * keys).reduce((most, weight) => Math.max(most, weight), 0));
    return { dim, scaled, scores: stages.scores, largest, deviation, support: Math.exp(rows.reduce((sum, entropy) => sum + entropy, 0) / rows.length) };
  })));
}

/** Why 1/√d: without it scores spread as √d, and softmax hardens to one key. */
export function ScaleView(): ReactElement {
  const calls = useMemo(() => new SideCalls(), []);
  const [power, setPower] = useState(6);
  const chosen = dims[power] ?? 64;
  const { value: rows, problem } = useLater(async () => spreads(calls), 'scale');
  const charts = useMemo(() => rows === null ? null : (['deviation', 'support'] as const).map((measure) => ({
    measure,
    options: {
      width: 460, height: 300, marginLeft: 48,
      x: { type: 'log' as const, base: 2, label: 'width d of the rows', ticks: dims, tickFormat: String },
      y: { type: measure === 'deviation' ? ('log' as const) : ('linear' as const), base: 2, label: measure === 'deviation' ? 'standard deviation of the scores' : 'keys that share the weight', grid: true, ...(measure === 'support' ? { domain: [0, keys] } : {}) },
      color: { legend: true, domain: ['q · k', 'q · k / √d'], range: ['#d6336c', '#0b8f8f'] },
      marks: [ruleY([measure === 'deviation' ? 1 : 0]), lineY(rows, { x: 'dim', y: measure, stroke: ({ scaled }: Spread) => (scaled ? 'q · k / √d' : 'q · k'), strokeWidth: 2 }), dotX(rows, { x: 'dim', y: measure, fill: ({ scaled }: Spread) => (scaled ? 'q · k / √d' : 'q · k') })],
    },
  })), [rows]);
  const histograms = useMemo(() => rows === null ? null : (['scores', 'largest'] as const).map((measure) => ({
    measure,
    options: {
      width: 460, height: 260, marginLeft: 48,
      x: { label: measure === 'scores' ? `scores at width ${chosen}` : `largest weight of a row at width ${chosen}`, ...(measure === 'largest' ? { domain: [0, 1] } : {}) },
      y: { label: measure === 'scores' ? 'pairs' : 'rows', grid: true },
      color: { legend: true, domain: [named.plain, named.scaled], range: ['#d6336c', '#0b8f8f'] },
      marks: [rectY(rows.filter(({ dim }) => dim === chosen).flatMap((row) => Array.from(row[measure], (value) => ({ value, kind: row.scaled ? named.scaled : named.plain }))), binX<RectYOptions>({ y2: 'count' }, { x: 'value', fill: 'kind', fillOpacity: 0.55, thresholds: 30 })), ruleY([0])],
    },
  })), [rows, chosen]);
  if (rows === null || charts === null || histograms === null) return <p className="hint" role="status">{problem ?? 'Computing …'}</p>;
  return (
    <>
      <p>Queries and keys are random here, {distributions.normal}, 32 queries over {keys} keys. A product of two such rows is a sum of d terms of variance one: its spread grows as √d. Softmax then gives nearly everything to one key, and its gradient vanishes. Divided by √d, the spread stays at one for every width.</p>
      <label className="slider" style={{ maxWidth: '30rem' }}><span>width d = {chosen}</span><input type="range" min={0} max={dims.length - 1} value={power} aria-valuetext={`width ${chosen}`} onChange={(event) => setPower(Number(event.target.value))} /><output>{chosen}</output></label>
      <div className="columns">{histograms.map(({ measure, options }) => <Figure key={measure} options={options} says={`How ${measure === 'scores' ? 'scores' : 'the largest weights of rows'} are distributed at width ${chosen}, with and without scaling`} />)}</div>
      <div className="columns">{charts.map(({ measure, options }) => <Figure key={measure} options={options} says={`${measure} against width, with and without scaling; the numbers stand in the table below`} />)}</div>
      <table>
        <thead><tr><th>d</th><th>spread of q · k</th><th>of q · k / √d</th><th>keys that share: q · k</th><th>q · k / √d</th></tr></thead>
        <tbody>{dims.map((dim) => { const [plain, scaled] = [rows.find((row) => row.dim === dim && !row.scaled), rows.find((row) => row.dim === dim && row.scaled)]; return <tr key={dim}><th scope="row">{dim}</th><td>{shown(plain?.deviation ?? NaN)}</td><td>{shown(scaled?.deviation ?? NaN)}</td><td>{shown(plain?.support ?? NaN)}</td><td>{shown(scaled?.support ?? NaN)}</td></tr>; })}</tbody>
      </table>
    </>
  );
}
