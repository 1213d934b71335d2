import { attention, causal, dot, eluFeatures, rowSum, window, type AttentionVariant, type Backend } from '@heed/core';
import { drawInputs, RandomSource } from '@heed/conformance';
import { lineY, dot as dots } from '@observablehq/plot';
import { useMemo, useState, type ReactElement } from 'react';
import { Figure } from '../components/figure.tsx';
import { shown } from '../model/formula.ts';
import { useLater } from '../state/use-later.ts';

const lengths = [256, 512, 1024, 2048, 4096];
const dim = 64;

interface Sample {
  readonly kind: string;
  readonly length: number;
  readonly milliseconds: number;
  readonly megabytes: number;
}

/** Time and bytes against length, measured in this page: dense, sparse and linear on one runtime. */
async function measure(): Promise<readonly Sample[]> {
  const [{ createWasmRuntime }, { createCpuBackend }, { sparse }, linear] = await Promise.all([import('@heed/runtime-wasm'), import('@heed/cpu'), import('@heed/sparse'), import('@heed/linear/wasm')]);
  const runtime = await createWasmRuntime();
  const cpu = await createCpuBackend({ runtime });
  const fast: Backend = await linear.createLinearBackend({ runtime });
  const kinds: readonly (readonly [kind: string, backend: Backend, variant: AttentionVariant])[] = [
    ['dense, causal', cpu, attention({ masking: causal() })],
    ['sparse, a window of 256', sparse(cpu), attention({ masking: causal().and(window({ left: 255, right: Infinity })) })],
    ['linear (elu + 1)', fast, attention({ scoring: dot().transform(eluFeatures()), masking: causal(), normalization: rowSum() })],
  ];
  const samples: Sample[] = [];
  try {
    for (const [kind, backend, variant] of kinds) {
      const kernel = await backend.prepare({ variant, queryDim: dim, keyDim: dim, valueDim: dim });
      for (const length of lengths) {
        const { query, key, value } = drawInputs(new RandomSource(length), { batch: 1, heads: 1, keyHeads: 1, queryLength: length, keyLength: length, queryDim: dim, keyDim: dim, valueDim: dim });
        const inputs = { query: runtime.upload(query), key: runtime.upload(key), value: runtime.upload(value) };
        const before = runtime.memory().bytes;
        const times: number[] = [];
        let peak = 0;
        for (let run = 0; run < 4; run++) {
          const started = performance.now();
          const { output, logSumExp } = await kernel.run(inputs);
          times.push(performance.now() - started);
          peak = Math.max(peak, runtime.memory().bytes - before);
          runtime.release(output);
          if (logSumExp !== undefined) runtime.release(logSumExp);
        }
        for (const tensor of Object.values(inputs)) runtime.release(tensor);
        times.sort((a, b) => a - b);
        samples.push({ kind, length, milliseconds: times[1] ?? Number.NaN, megabytes: peak / 1e6 });
      }
      await kernel.dispose();
    }
  } finally {
    await fast.dispose();
    await cpu.dispose();
    await runtime.dispose();
  }
  return samples;
}

export function Cost(): ReactElement {
  const [asked, setAsked] = useState(0);
  const { value: samples, problem } = useLater(async () => (asked === 0 ? null : measure()), String(asked));
  const options = useMemo(() => samples === null ? null : {
    width: 620, height: 340, marginLeft: 56,
    x: { type: 'log' as const, base: 2, label: 'tokens', ticks: lengths, tickFormat: String },
    y: { type: 'log' as const, label: 'milliseconds', grid: true },
    color: { legend: true },
    marks: [lineY(samples, { x: 'length', y: 'milliseconds', stroke: 'kind', strokeWidth: 2 }), dots(samples, { x: 'length', y: 'milliseconds', fill: 'kind' })],
  }, [samples]);
  return (
    <>
      <p>One head of width {dim}, on this machine, now: dense attention does four times the work for twice the length, a window and a linear memory twice. Measured on the WebAssembly runtime, the second best of four calls each.</p>
      <button type="button" onClick={() => setAsked(asked + 1)}>{samples === null ? 'Measure' : 'Measure again'}</button>
      {problem === null ? null : <p className="problem" role="alert">{problem}</p>}
      {asked > 0 && samples === null && problem === null ? <p className="hint" role="status">Measuring … some seconds.</p> : null}
      {samples === null || options === null ? null : (
        <>
          <Figure options={options} says="Milliseconds against tokens; the numbers stand in the table below" />
          <table>
            <thead><tr><th>tokens</th>{[...new Set(samples.map(({ kind }) => kind))].map((kind) => <th key={kind}>{kind}</th>)}</tr></thead>
            <tbody>{lengths.map((length) => <tr key={length}><th scope="row">{length}</th>{samples.filter((sample) => sample.length === length).map((sample) => <td key={sample.kind}>{shown(sample.milliseconds)} ms, {shown(sample.megabytes)} MB</td>)}</tr>)}</tbody>
          </table>
        </>
      )}
    </>
  );
}
