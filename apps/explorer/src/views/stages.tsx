import type { ReactElement } from 'react';
import { CanvasImage } from '../components/canvas-image.tsx';
import { HeatMap } from '../components/heat-map.tsx';
import { effectsOf, entropies, rowSums } from '../model/effect.ts';
import { shown, stepsOf } from '../model/formula.ts';
import { planeOf, type ViewProps } from './view.ts';

/** The call, stage by stage. */
export function Stages({ state, change, variant, uniforms, heads, result, queryLabels, keyLabels, cell, onCell }: ViewProps): ReactElement {
  const head = Math.min(state.head, result.heads - 1);
  const { queryLength, keyLength, valueDim } = result;
  const pairs = queryLength * keyLength;
  const stage = (name: keyof typeof result.stages): Float32Array => planeOf(result.stages[name], head, pairs);
  const weights = stage('weights');
  const values = Float32Array.from(heads.value.view()).subarray(head * keyLength * valueDim, (head + 1) * keyLength * valueDim);
  const outputs = planeOf(result.output, head, queryLength * valueDim);
  const share = variant.normalization.rule.kind === 'softmax' && variant.aggregation.reduction === 'sum';
  const effects = effectsOf(weights, values, outputs, valueDim, share);
  const map = { rows: queryLength, columns: keyLength, rowLabels: queryLabels, columnLabels: keyLabels, cell, onCell };
  const dim = heads.query.shape[3] ?? 0;
  const rowsOf = (tensor: typeof heads.query): Float32Array => Float32Array.from(tensor.view()).subarray(head * (tensor.shape[2] ?? 0) * (tensor.shape[3] ?? 0), (head + 1) * (tensor.shape[2] ?? 0) * (tensor.shape[3] ?? 0));
  const ofQuery = { row: cell?.row ?? 0, column: 0 };
  const sums = rowSums(weights, keyLength);
  const bits = entropies(weights, keyLength);
  const modified = variant.scoring.modifiers.length > 0;
  return (
    <>
      <Heads {...{ state, change, heads, result, head }} />
      <div className="maps">
        <HeatMap title="queries" values={rowsOf(heads.query)} rows={queryLength} columns={dim} rowLabels={queryLabels} scale="diverging" cell={cell === null ? null : ofQuery} onCell={(chosen) => onCell(chosen === null ? null : { row: chosen.row, column: cell?.column ?? 0 })} size={180} />
        <HeatMap title="keys" values={rowsOf(heads.key)} rows={keyLength} columns={heads.key.shape[3] ?? 0} rowLabels={keyLabels} scale="diverging" cell={cell === null ? null : { row: cell.column, column: 0 }} onCell={(chosen) => onCell(chosen === null ? null : { row: cell?.row ?? 0, column: chosen.row })} size={180} />
        <HeatMap title="scores" values={stage('scores')} scale="diverging" {...map} />
        {modified ? <HeatMap title="modified scores" values={stage('modified')} scale="diverging" {...map} /> : null}
        <HeatMap title="masked scores" values={stage('masked')} scale="diverging" {...map} />
        <HeatMap title="weights" values={weights} scale="sequential" {...map} />
        <HeatMap title="output" values={outputs} rows={queryLength} columns={valueDim} rowLabels={queryLabels} scale="diverging" cell={cell === null ? null : { row: cell.row, column: 0 }} onCell={(chosen) => onCell(chosen === null ? null : { row: chosen.row, column: cell?.column ?? 0 })} size={180} />
      </div>
      {cell === null || cell.row >= queryLength || cell.column >= keyLength ? <p className="hint">Point at a cell to see how it came about.</p> : (
        <section className="pair" aria-live="polite">
          <h3>How much “{queryLabels[cell.row]}” attends to “{keyLabels[cell.column]}”</h3>
          <table>
            <thead><tr><th>stage</th><th>formula</th><th>with the numbers put in</th><th>result</th></tr></thead>
            <tbody>{stepsOf(variant, heads, result, { head, query: cell.row, key: cell.column }, uniforms).map((step, index) => <tr key={index}><th scope="row">{step.stage}</th><td><code>{step.formula}</code></td><td><code>{step.filled}</code></td><td><strong>{step.result}</strong></td></tr>)}</tbody>
          </table>
          <p>The weights of “{queryLabels[cell.row]}” sum to <strong>{shown(sums[cell.row] ?? Number.NaN)}</strong>{Math.abs((sums[cell.row] ?? 1) - 1) > 1e-3 ? ', which is not one' : ''}; their entropy is {shown(bits[cell.row] ?? Number.NaN)} nats, as if {shown(Math.exp(bits[cell.row] ?? 0))} keys were equally heavy.</p>
        </section>
      )}
      <section className="caution">
        <h3>A large weight is not a large effect</h3>
        <p>The weight says how much of a value is taken, not what that value is. Beside it: the length of what is added, and how far the output moves when the key is taken away.</p>
        <div className="maps">
          <HeatMap title="weight" values={weights} scale="sequential" {...map} size={200} />
          <HeatMap title="‖weight · value‖" values={effects.valueNorms} scale="sequential" {...map} size={200} />
          <HeatMap title="leave-one-out effect" values={effects.leaveOneOut} scale="sequential" {...map} size={200} />
        </div>
      </section>
    </>
  );
}

/** The heads side by side, small, with their entropy: pick one. */
function Heads({ state, change, heads, result, head }: Pick<ViewProps, 'state' | 'change' | 'heads' | 'result'> & { readonly head: number }): ReactElement | null {
  if (result.heads < 2) return null;
  const pairs = result.queryLength * result.keyLength;
  return (
    <div className="heads" role="radiogroup" aria-label="Heads">
      {heads.names.map((name, index) => {
        const weights = planeOf(result.stages.weights, index, pairs);
        const mean = entropies(weights, result.keyLength).reduce((sum, entropy) => sum + entropy, 0) / Math.max(1, result.queryLength);
        return (
          <button key={name} type="button" role="radio" aria-checked={index === head} className={index === head ? 'is-chosen' : ''} onClick={() => change({ head: index })}>
            <span aria-hidden="true" className="thumbnail"><CanvasImage values={weights} rows={result.queryLength} columns={result.keyLength} scale="sequential" /></span>
            <span>{name}</span>
            <small>{shown(mean)} nats</small>
          </button>
        );
      })}
      {state.head >= result.heads ? <span className="hint">There are {result.heads} heads.</span> : null}
    </div>
  );
}
