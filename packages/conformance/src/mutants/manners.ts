import type { AttentionInputs, AttentionKernel, AttentionOutputs, Tensor } from '@heed/core';
import { AttentionError, tensor } from '@heed/core';
import { changedNormalization, onHost, overwrite, withStages, without } from './alter.ts';
import type { Mutant } from './mutant.ts';
import { mutant } from './mutant.ts';

/** Bad manners: silence, leaks, locks, and calls that should have been refused. */
export const mannersMutants: readonly Mutant[] = [
  mutant({ name: 'silent-fallback', plan: 'computes softmax where sparsemax or entmax was asked for', names: ['L20', 'golden', 'normalization'], controls: ['L3', 'L4', 'L7'] }, () => ({
    request: (request) => {
      const { normalization } = request.variant;
      return normalization.rule.kind === 'threshold' ? withStages(request, { normalization: changedNormalization(normalization, { rule: { kind: 'softmax', score: normalization.rule.score, sink: null } }) }) : request;
    },
  })),
  mutant({ name: 'precision-changed', plan: 'says that it does no float64 and computes it all the same', names: ['L20'], controls: ['golden', 'L3', 'L9'] }, () => ({ capabilities: { dtypes: ['f32', 'f16', 'bf16'] } })),
  mutant({ name: 'refusal-without-reason', plan: 'refuses without saying why', names: ['L20'], controls: ['golden', 'L3', 'L4'] }, () => ({ assess: (_request, right) => (right.supported ? right : { supported: false, refusals: [] }) })),
  mutant({ name: 'refusal-of-another-stage', plan: 'names the wrong stage when it refuses', names: ['L20'], controls: ['golden', 'L3', 'L4'] }, () => ({
    assess: (_request, right) => (right.supported ? right : { supported: false, refusals: right.refusals.map((refusal) => ({ ...refusal, stage: 'shape' })) }),
  })),
  mutant({ name: 'assess-remembers', plan: 'says another plan the second time', names: ['L20'], controls: ['golden', 'L3', 'L4'] }, () => {
    let calls = 0;
    return { assess: (_request, right) => (right.supported ? { ...right, plan: `${right.plan}, asked ${++calls} times` } : right) };
  }),
  mutant({ name: 'flops-overcounted', plan: 'counts exponentials as FLOPs', names: ['L20'], controls: ['golden', 'L3', 'L4'] }, () => ({
    assess: (_request, right) => (right.supported && right.cost !== undefined ? { ...right, cost: { ...right.cost, flops: right.cost.flops * 1.1 } } : right),
  })),
  mutant({ name: 'unknown-table-ignored', plan: 'ignores tables that the variant does not declare', names: ['L20', 'errors'], controls: ['golden', 'L3', 'L4'] }, () => ({
    inputs: (inputs, request) => ({ ...inputs, ...(inputs.tables === undefined ? {} : { tables: Object.fromEntries(Object.entries(inputs.tables).filter(([name]) => name in request.variant.tables)) }) }),
  })),
  mutant({ name: 'unknown-uniform-ignored', plan: 'ignores uniforms that the variant does not declare', names: ['L20', 'errors'], controls: ['golden', 'L3', 'L4'] }, () => ({
    inputs: (inputs, request) => ({ ...inputs, ...(inputs.uniforms === undefined ? {} : { uniforms: Object.fromEntries(Object.entries(inputs.uniforms).filter(([name]) => name in request.variant.uniforms)) }) }),
  })),
  mutant({ name: 'uniforms-ignored', plan: 'ignores the uniforms of a call', names: ['L4', 'L18', 'L20'], controls: ['golden', 'L3', 'L7'] }, () => ({ inputs: (inputs) => without(inputs, 'uniforms') })),
  mutant({ name: 'uniforms-kept', plan: 'keeps the uniforms of the call before', names: ['L18', 'L20'], controls: ['golden', 'L3', 'L7'] }, () => ({
    kernel: (kernel) => {
      let kept: AttentionInputs['uniforms'];
      const keep = (inputs: AttentionInputs): AttentionInputs => {
        kept ??= inputs.uniforms ?? {};
        return { ...inputs, uniforms: kept };
      };
      return { run: (inputs, options) => kernel.run(keep(inputs), options) };
    },
  })),
  mutant({ name: 'tables-by-structure', plan: 'keeps the tables that the first call of a structure bound', names: ['L20'], controls: ['golden', 'L3', 'L4'] }, () => {
    const kept = new Map<string, Tensor>();
    return {
      inputs: (inputs, request) => {
        const slopes = inputs.tables?.['slopes'];
        if (slopes === undefined) return inputs;
        const key = `${request.variant.structure} ${slopes.shape.join()}`;
        kept.set(key, kept.get(key) ?? slopes);
        return { ...inputs, tables: { ...inputs.tables, slopes: kept.get(key) ?? slopes } };
      },
    };
  }),
  mutant({ name: 'uniforms-in-structure', plan: 'a second variant of the same structure gets the defaults of the first', names: ['L20'], controls: ['golden/pairs', 'L3', 'L7'] }, () => {
    const first = new Map<string, number>();
    return {
      inputs: (inputs, request) => {
        const cap = request.variant.uniforms['softcap.cap']?.value;
        if (typeof cap !== 'number' || inputs.uniforms?.['softcap.cap'] !== undefined) return inputs;
        const kept = first.get(request.variant.structure) ?? cap;
        first.set(request.variant.structure, kept);
        return { ...inputs, uniforms: { ...inputs.uniforms, 'softcap.cap': kept } };
      },
    };
  }),
  mutant({ name: 'duplicate-edges', plan: 'drops an edge that stands twice instead of refusing it', names: ['L17', 'L20', 'errors'], controls: ['golden', 'L3', 'blocks'] }, () => ({ inputs: deduplicated })),
  mutant({ name: 'dispose-ignored', plan: 'runs after it was disposed', names: ['lifecycle/dispose-kernel'], controls: ['golden', 'L3', 'errors'] }, () => ({ kernel: () => ({ dispose: () => Promise.resolve() }) })),
  mutant({ name: 'dispose-once', plan: 'throws when it is disposed twice', names: ['lifecycle/dispose-kernel'], controls: ['golden', 'L3', 'errors'] }, () => ({
    kernel: (kernel) => {
      let disposed = false;
      return {
        dispose: () => {
          if (disposed) return Promise.reject(new AttentionError('disposed', 'Already disposed.', 'Dispose once.'));
          disposed = true;
          return kernel.dispose();
        },
      };
    },
  })),
  mutant({ name: 'abort-ignored', plan: 'ignores the signal', names: ['lifecycle/aborted-before'], controls: ['golden', 'L3', 'errors'] }, () => ({ kernel: (kernel) => ({ run: (inputs, options) => kernel.run(inputs, options?.into === undefined ? {} : { into: options.into }) }) })),
  mutant({ name: 'listener-left', plan: 'leaves a listener on the signal', names: ['lifecycle/aborted-during'], controls: ['golden', 'L3', 'errors'] }, () => ({
    kernel: (kernel) => ({
      run: (inputs, options) => {
        options?.signal?.addEventListener('abort', () => undefined);
        return kernel.run(inputs, options);
      },
    }),
  })),
  mutant({ name: 'lock-leaked', plan: 'an error leaves the lock taken: later calls never answer', names: ['errors/input', 'errors/many'], controls: ['golden', 'L5', 'L7'] }, () => {
    let locked = false;
    const guarded = (kernel: AttentionKernel): Partial<AttentionKernel> => ({
      run: async (inputs, options) => {
        if (locked) return new Promise<AttentionOutputs>(() => undefined);
        locked = true;
        const outputs = await kernel.run(inputs, options);
        locked = false;
        return outputs;
      },
    });
    return { kernel: guarded };
  }),
  mutant({ name: 'poisoned-by-error', plan: 'after an error every call is refused', names: ['errors/input', 'L17', 'errors/many'], controls: ['golden', 'L5', 'L7'] }, () => ({
    kernel: (kernel) => {
      let broken = false;
      return {
        run: async (inputs, options) => {
          if (broken) throw new AttentionError('internal', 'An earlier call failed.', 'Make another kernel.');
          try {
            return await kernel.run(inputs, options);
          } catch (error) {
            broken = true;
            throw error;
          }
        },
      };
    },
  })),
  mutant({ name: 'memory-leaked', plan: 'keeps a tensor of each call', names: ['lifecycle/memory', 'errors/many'], controls: ['golden', 'L3', 'L4'] }, () => ({
    kernel: (kernel, _request, backend) => ({
      run: (inputs, options) => {
        backend.runtime.upload(tensor([1, 2, 3], [3]));
        return kernel.run(inputs, options);
      },
    }),
  })),
  mutant({ name: 'memory-leaked-by-errors', plan: 'keeps the workspace of a call that failed', names: ['errors/input', 'errors/many'], controls: ['golden', 'L3', 'lifecycle/memory'] }, () => ({
    kernel: (kernel, _request, backend) => ({
      run: async (inputs, options) => {
        const workspace = backend.runtime.upload(tensor([1, 2, 3], [3]));
        const outputs = await kernel.run(inputs, options);
        backend.runtime.release(workspace);
        return outputs;
      },
    }),
  })),
  mutant({ name: 'untyped-errors', plan: 'throws plain errors', names: ['errors/input', 'errors/typed'], controls: ['golden', 'L5', 'L7'] }, () => ({
    kernel: (kernel) => ({
      run: (inputs, options) =>
        kernel.run(inputs, options).catch((error: unknown) => {
          throw new Error(error instanceof Error ? error.message : String(error));
        }),
    }),
  })),
  mutant({ name: 'run-throws', plan: 'run throws instead of rejecting its promise', names: ['errors/run-rejects'], controls: ['golden', 'L3', 'L4'] }, () => ({
    kernel: (kernel) => ({
      run: (inputs, options) => {
        if (!('query' in inputs)) throw new AttentionError('invalid-argument', 'There is no query.', 'Pass one.');
        return kernel.run(inputs, options);
      },
    }),
  })),
  mutant({ name: 'reads-late', plan: 'reads host inputs after the caller may have changed them', names: ['lifecycle/run-copies'], controls: ['golden', 'L3', 'L4'] }, () => ({ kernel: (kernel) => ({ run: (inputs, options) => Promise.resolve().then(() => kernel.run(inputs, options)) }) })),
  mutant({ name: 'calls-mixed-up', plan: 'two calls at once share one workspace: the second overwrites the first', names: ['lifecycle/concurrent'], controls: ['golden', 'L3', 'L4'] }, () => {
    let running = 0;
    return {
      kernel: (kernel) => ({
        run: async (inputs, options) => {
          running++;
          try {
            const outputs = await kernel.run(inputs, options);
            if (running > 1) overwrite(outputs.output, (value) => value + 0.5);
            return outputs;
          } finally {
            running--;
          }
        },
      }),
    };
  }),
  mutant({ name: 'output-of-another-type', plan: 'returns float64 where the request says float32', names: ['lifecycle/on-the-host'], controls: ['golden', 'L3', 'L4'] }, () => ({
    outputs: (outputs) => ({ ...outputs, output: tensor(Float64Array.from(onHost(outputs.output).view()), outputs.output.shape) }),
  })),
];

/** Each edge once. */
function deduplicated(inputs: AttentionInputs): AttentionInputs {
  if (inputs.edges === undefined) return inputs;
  const starts = onHost(inputs.edges.starts).view();
  const keys = onHost(inputs.edges.keys).view();
  const ascends = Array.from(starts).every((start, index) => index === 0 || start >= (starts[index - 1] ?? 0));
  if (!ascends) return inputs;
  const rows = Array.from({ length: starts.length - 1 }, (_, query) => [...new Set(Array.from(keys.subarray(starts[query] ?? 0, starts[query + 1] ?? 0)))]);
  const ends = [0];
  for (const row of rows) ends.push((ends.at(-1) ?? 0) + row.length);
  return { ...inputs, edges: { starts: tensor(Int32Array.from(ends), [ends.length]), keys: tensor(Int32Array.from(rows.flat()), [rows.flat().length]) } };
}
