import { useMemo, type ReactElement } from 'react';
import { Backends } from '../model/backends.ts';
import { useLater } from '../state/use-later.ts';
import type { ViewProps } from './view.ts';

/** The variant, and the code that was made of it. */
export function Kernel({ state, variant, heads, result }: ViewProps): ReactElement {
  const backends = useMemo(() => new Backends(), []);
  const dims = { queryDim: heads.query.shape[3] ?? 1, keyDim: heads.key.shape[3] ?? 1, valueDim: heads.value.shape[3] ?? 1 };
  const { value, problem } = useLater(async () => {
    const backend = await backends.get(state.backend);
    const kernel = await backend.prepare({ variant, ...dims });
    const explanation = kernel.explain({ batch: 1, heads: result.heads, keyHeads: result.heads, queryLength: result.queryLength, keyLength: result.keyLength });
    await kernel.dispose();
    return explanation;
  }, `${state.backend} ${variant.structure} ${Object.values(dims).join()}`);
  return (
    <div className="columns">
      <section className="panel">
        <h3>The variant</h3>
        <p className="hint">What it computes, without the values of its parameters: equal text, equal kernel.</p>
        <pre tabIndex={0}>{variant.structure}</pre>
        {value === null ? null : <><h3 style={{ marginTop: '1rem' }}>The plan</h3><ul>{value.plan.map((line, index) => <li key={index}>{line}</li>)}</ul></>}
      </section>
      <section className="panel" style={{ gridColumn: 'span 2', minWidth: 0 }}>
        <h3>The code</h3>
        {problem === null ? null : <p className="problem" role="alert">{problem}</p>}
        {value === null ? <p className="hint" role="status">{problem === null ? 'Compiling …' : ''}</p> : Object.entries(value.code).length === 0 ? <p className="hint">The reference interprets the variant; it makes no code. Pick cpu for WebAssembly or webgpu for WGSL.</p> : Object.entries(value.code).map(([name, text]) => <div key={name}><p className="hint">{name}, {text.split('\n').length} lines</p><pre tabIndex={0}>{text.length > 60_000 ? `${text.slice(0, 60_000)}\n…` : text}</pre></div>)}
      </section>
    </div>
  );
}
