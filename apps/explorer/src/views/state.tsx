import { additiveRule, decayRule, deltaRule, fastWeights, gatedDeltaRule, tensor, toFloat64, type FastWeightInputs, type FastWeightRule, type HostTensor } from '@heed/core';
import { createReferenceBackend } from '@heed/core/reference';
import { useMemo, useState, type ReactElement } from 'react';
import { HeatMap } from '../components/heat-map.tsx';
import { useLater } from '../state/use-later.ts';
import type { ViewProps } from './view.ts';

interface RuleChoice {
  readonly label: string;
  readonly says: string;
  readonly make: () => FastWeightRule;
  readonly takes: readonly ('logDecay' | 'writeStrength')[];
}

const rules: Readonly<Record<string, RuleChoice>> = {
  additive: { label: 'additive (linear attention)', says: 'Every token adds key · valueᵀ; nothing is forgotten, so old and new mix.', make: additiveRule, takes: [] },
  decay: { label: 'decay (RetNet, Mamba-2)', says: 'The whole memory fades a little with each token.', make: () => decayRule({ by: 'step' }), takes: ['logDecay'] },
  delta: { label: 'delta rule', says: 'What stood at the key is replaced by the new value.', make: deltaRule, takes: ['writeStrength'] },
  gatedDelta: { label: 'gated delta rule', says: 'The memory fades, and what stood at the key is replaced.', make: gatedDeltaRule, takes: ['logDecay', 'writeStrength'] },
};

/** The fast-weight matrix as tokens arrive: a memory of fixed size instead of all keys and values. */
export function StateView({ state, heads, result, queryLabels }: ViewProps): ReactElement {
  const [name, setName] = useState('delta');
  const [step, setStep] = useState(result.keyLength);
  const [decay, setDecay] = useState(0.9);
  const choice = rules[name] ?? rules['delta'];
  const backend = useMemo(() => createReferenceBackend(), []);
  const head = Math.min(state.head, result.heads - 1);
  const length = Math.min(result.keyLength, result.queryLength);
  const dim = heads.key.shape[3] ?? 1;
  const seen = Math.max(1, Math.min(length, step));
  const { value, problem } = useLater(async () => {
    if (choice === undefined) return null;
    const kernel = await backend.prepare({ variant: fastWeights({ rule: choice.make() }), dim, valueDim: result.valueDim });
    // Unit keys, which the delta rule asks for.
    const rows = (source: HostTensor, unit: boolean): HostTensor => {
      const width = source.shape[3] ?? 1;
      const view = source.view().subarray(head * (source.shape[2] ?? 0) * width, (head * (source.shape[2] ?? 0) + seen) * width);
      const norms = Array.from({ length: seen }, (_, row) => Math.hypot(...view.subarray(row * width, (row + 1) * width)) || 1);
      return tensor(Float32Array.from(view, (element, place) => (unit ? element / (norms[Math.floor(place / width)] ?? 1) : element)), [1, 1, seen, width]);
    };
    const inputs: FastWeightInputs = {
      query: rows(heads.query, true), key: rows(heads.key, true), value: rows(heads.value, false),
      ...(choice.takes.includes('logDecay') ? { logDecay: tensor(new Float32Array(seen).fill(Math.log(decay)), [1, 1, seen]) } : {}),
      ...(choice.takes.includes('writeStrength') ? { writeStrength: tensor(new Float32Array(seen).fill(1), [1, 1, seen]) } : {}),
    };
    const { output, state: after } = await kernel.run(inputs);
    return { memory: Float32Array.from(toFloat64(after['memory'] as HostTensor)), output: Float32Array.from(toFloat64(output as HostTensor)) };
  }, `${name} ${seen} ${decay} ${head} ${queryLabels.join(' ')} ${heads.key.shape.join()}`);
  return (
    <>
      <div className="columns">
        <div>
          <label className="choice"><span>Rule</span><select value={name} onChange={(event) => setName(event.target.value)}>{Object.entries(rules).map(([each, { label }]) => <option key={each} value={each}>{label}</option>)}</select><small>{choice?.says}</small></label>
          <label className="slider"><span>token {seen} of {length}: “{queryLabels[seen - 1]}”</span><input type="range" min={1} max={length} value={seen} onChange={(event) => setStep(Number(event.target.value))} /><output>{seen}</output></label>
          {choice?.takes.includes('logDecay') === true ? <label className="slider"><span>what stays of the memory at each token</span><input type="range" min={0.3} max={1} step={0.01} value={decay} onChange={(event) => setDecay(Number(event.target.value))} /><output>{decay.toFixed(2)}</output></label> : null}
          <p>Keys and values of {seen} tokens would be {seen * (dim + result.valueDim)} numbers; the memory is {dim * result.valueDim}, however long the text.</p>
        </div>
        {value === null ? <p className="hint" role="status">{problem ?? 'Computing …'}</p> : (
          <div className="maps">
            <HeatMap title="memory: key channels × value channels" values={value.memory} rows={dim} columns={result.valueDim} scale="diverging" cell={null} onCell={() => undefined} />
            <HeatMap title="what each token reads" values={value.output} rows={seen} columns={result.valueDim} rowLabels={queryLabels.slice(0, seen)} scale="diverging" cell={null} onCell={() => undefined} />
          </div>
        )}
      </div>
    </>
  );
}
