import { tensor, type HostTensor } from '@heed/core';
import { useMemo, useState, type ReactElement } from 'react';
import { HeatMap } from '../components/heat-map.tsx';
import { shown } from '../model/formula.ts';
import type { HeadTables } from '../model/heads.ts';
import { SideCalls } from '../model/side-call.ts';
import { useLater } from '../state/use-later.ts';
import { planeOf, type ViewProps } from './view.ts';

/** Keys and values in another order; queries stay. */
function reordered({ query, key, value }: HeadTables, order: readonly number[]): Omit<HeadTables, 'names'> {
  const move = (source: HostTensor): HostTensor => {
    const [, heads = 0, length = 0, dim = 0] = source.shape;
    const view = source.view();
    return tensor(Float32Array.from({ length: heads * length * dim }, (_, place) => view[(Math.floor(place / (length * dim)) * length + (order[Math.floor(place / dim) % length] ?? 0)) * dim + (place % dim)] ?? 0), source.shape);
  };
  return { query, key: move(key), value: move(value) };
}

/** Keys and values are shuffled together: without a position in the variant, every output stays what it was. */
export function Position({ state, variant, described, uniforms, heads, result, queryLabels, keyLabels, cell, onCell }: ViewProps): ReactElement {
  const [shift, setShift] = useState(1);
  const calls = useMemo(() => new SideCalls(), []);
  const { keyLength, queryLength, valueDim } = result;
  const order = useMemo(() => Array.from({ length: keyLength }, (_, index) => (index * (shift * 2 + 1) + shift) % keyLength).filter((key, index, all) => all.indexOf(key) === index), [keyLength, shift]);
  const whole = order.length === keyLength ? order : Array.from({ length: keyLength }, (_, index) => keyLength - 1 - index);
  const { value: both, problem } = useLater(async () => Promise.all([calls.run(described, heads, uniforms), calls.run(described, reordered(heads, whole), uniforms)]), `${variant.structure} ${JSON.stringify(uniforms)} ${whole.join()} ${keyLabels.join(' ')}`);
  if (both === null) return <p className="hint" role="status">{problem ?? 'Computing …'}</p>;
  const [before, after] = both;
  const head = Math.min(state.head, result.heads - 1);
  if (after.keyLength !== keyLength) return <p className="hint" role="status">Computing …</p>;
  const moved = before.output.reduce((most, value, index) => Math.max(most, Math.abs(value - (after.output[index] ?? NaN))), 0);
  const shuffled = whole.map((key) => keyLabels[key] ?? '');
  const plane = (source: Float32Array, columns: number): Float32Array => planeOf(source, head, queryLength * columns);
  return (
    <>
      <p>The keys and their values are dealt out anew; queries stay where they are. {moved < 1e-6 ? <>The outputs do not move (by {shown(moved)} at most): <strong>attention acts on a set</strong>, and nothing in this variant knows an order.</> : <>The outputs move by up to <strong>{shown(moved)}</strong>: something in this variant knows where a key stands — its mask, ALiBi or rotary positions.</>} Rows of hand-built heads that know a position carry it in the row itself, so it travels with the key.</p>
      <button type="button" onClick={() => setShift(shift + 1)}>Deal again</button>
      <div className="maps">
        <HeatMap title="weights, as they stood" values={plane(before.stages.weights, keyLength)} rows={queryLength} columns={keyLength} rowLabels={queryLabels} columnLabels={keyLabels} scale="sequential" cell={cell} onCell={onCell} />
        <HeatMap title="weights, shuffled" values={plane(after.stages.weights, keyLength)} rows={queryLength} columns={keyLength} rowLabels={queryLabels} columnLabels={shuffled} scale="sequential" cell={cell} onCell={onCell} />
        <HeatMap title="output before" values={plane(before.output, valueDim)} rows={queryLength} columns={valueDim} scale="diverging" cell={null} onCell={() => undefined} size={180} />
        <HeatMap title="output after" values={plane(after.output, valueDim)} rows={queryLength} columns={valueDim} scale="diverging" cell={null} onCell={() => undefined} size={180} />
      </div>
    </>
  );
}
