import { slice, tensor } from '@heed/core';
import { areaY } from '@observablehq/plot';
import { useMemo, useState, type ReactElement } from 'react';
import { Figure } from '../components/figure.tsx';
import { HeatMap } from '../components/heat-map.tsx';
import { shown } from '../model/formula.ts';
import { SideCalls } from '../model/side-call.ts';
import { useLater } from '../state/use-later.ts';
import { planeOf, type ViewProps } from './view.ts';

/** A text that grows token by token: the weights of the newest query, and how those of one query moved as keys came. */
export function Dynamics({ state, variant, described, uniforms, heads, result, queryLabels, keyLabels }: ViewProps): ReactElement {
  const length = Math.min(result.queryLength, result.keyLength);
  const [asked, setStep] = useState(length);
  const [other, setOther] = useState(1);
  const [share, setShare] = useState(0);
  const step = Math.max(1, Math.min(length, asked));
  const calls = useMemo(() => new SideCalls(), []);
  const head = Math.min(state.head, result.heads - 1);
  const shown32 = Math.min(length, 32);
  const { value: steps, problem } = useLater(async () => Promise.all(Array.from({ length: shown32 }, async (_, before) => {
    const count = length - shown32 + before + 1;
    const part = (source: typeof heads.query): typeof heads.query => slice(source, 2, 0, count);
    return calls.run(described, { query: part(heads.query), key: part(heads.key), value: part(heads.value) }, uniforms);
  })), `${variant.structure} ${JSON.stringify(uniforms)} ${queryLabels.join(' ')} ${heads.query.shape.join()}`);
  // The newest query turns into another token's, at its own place.
  const turning = Math.min(other, length - 1);
  const { value: turned } = useLater(async () => {
    const [, , rows = 0, dim = 0] = heads.query.shape;
    const view = heads.query.view();
    const query = Float32Array.from(view);
    for (let plane = 0; plane < heads.names.length; plane++) for (let channel = 0; channel < dim; channel++) {
      const at = (row: number): number => (plane * rows + row) * dim + channel;
      query[at(step - 1)] = (1 - share) * (view[at(step - 1)] ?? 0) + share * (view[at(turning)] ?? 0);
    }
    return calls.run(described, { query: tensor(query, heads.query.shape), key: heads.key, value: heads.value }, uniforms);
  }, `${variant.structure} ${JSON.stringify(uniforms)} ${queryLabels.join(' ')} ${heads.query.shape.join()} ${step} ${turning} ${share}`);
  const flow = useMemo(() => steps === null ? null : {
    width: 640, height: 240, marginLeft: 48,
    x: { label: 'tokens so far' }, y: { label: 'weights of the newest query', domain: [0, 1] },
    color: { legend: false, scheme: 'Spectral' as const },
    marks: [areaY(steps.flatMap((one) => Array.from(planeOf(one.stages.weights, head, one.queryLength * one.keyLength).subarray((one.queryLength - 1) * one.keyLength), (weight, key) => ({ step: one.keyLength, key: `${String(key).padStart(3, '0')} ${keyLabels[key] ?? ''}`, weight: Math.max(0, weight) }))), { x: 'step', y: 'weight', fill: 'key', title: 'key', curve: 'step' })],
  }, [steps, head]);
  if (steps === null || flow === null) return <p className="hint" role="status">{problem ?? 'Computing …'}</p>;
  const now = steps.find(({ keyLength }) => keyLength === step) ?? steps.at(-1);
  if (now === undefined) return <p className="hint">There is nothing to step through.</p>;
  const row = planeOf(now.stages.weights, head, now.queryLength * now.keyLength).subarray((now.queryLength - 1) * now.keyLength);
  const strongest = row.indexOf(row.reduce((most, weight) => Math.max(most, weight), -Infinity));
  return (
    <>
      <label className="slider" style={{ maxWidth: '30rem' }}>
        <span>token {step} of {length}: “{queryLabels[step - 1]}”</span>
        <input type="range" min={length - shown32 + 1} max={length} value={step} onChange={(event) => setStep(Number(event.target.value))} />
        <output>{step}</output>
      </label>
      <p>When “{queryLabels[now.queryLength - 1]}” arrives it attends most to “{keyLabels[strongest]}” ({shown(row[strongest] ?? Number.NaN)}). {now.keyLength > 1 && Math.abs((steps.find(({ keyLength }) => keyLength === now.keyLength - 1)?.output[0] ?? 0) - (now.output[0] ?? 0)) > 1e-6 ? 'Queries before it moved too, since nothing hides later keys from them: pick a causal mask.' : 'Queries before it stand still.'}</p>
      <div className="maps">
        <HeatMap title="weights so far" values={planeOf(now.stages.weights, head, now.queryLength * now.keyLength)} rows={now.queryLength} columns={now.keyLength} rowLabels={queryLabels.slice(0, now.queryLength)} columnLabels={keyLabels.slice(0, now.keyLength)} scale="sequential" cell={{ row: now.queryLength - 1, column: strongest }} onCell={() => undefined} />
        {turned?.keyLength !== result.keyLength ? null : (
          <section>
            <p className="hint">Let the query of “{queryLabels[step - 1]}” turn into that of another token, and watch its row of weights.</p>
            <label className="choice"><span>turns into</span><select value={turning} onChange={(event) => setOther(Number(event.target.value))}>{queryLabels.slice(0, length).map((label, index) => <option key={index} value={index}>{`${index + 1}. ${label}`}</option>)}</select></label>
            <label className="slider"><span>how far</span><input type="range" min={0} max={1} step={0.02} value={share} onChange={(event) => setShare(Number(event.target.value))} /><output>{Math.round(share * 100)} %</output></label>
            <HeatMap title={`weights of “${queryLabels[step - 1] ?? ''}”`} values={planeOf(turned.stages.weights, head, turned.queryLength * turned.keyLength).subarray((step - 1) * turned.keyLength, step * turned.keyLength)} rows={1} columns={turned.keyLength} rowLabels={[queryLabels[step - 1] ?? '']} columnLabels={keyLabels} scale="sequential" cell={null} onCell={() => undefined} size={220} />
          </section>
        )}
        <Figure options={flow} says="Shares of each key in the weights of the newest query, step by step" />
      </div>
    </>
  );
}
