import type { AttentionKernel, Backend, HostTensor, StopSignal, Tensor } from '@heed/core';
import { alibi, attention, causal, fastWeights, gatedDeltaRule, isAttentionError, isHostTensor, l2Norm, restride, scaledDot, softmax, tensor } from '@heed/core';
import { plainRequest } from '../capability.ts';
import type { Case } from '../case.ts';
import { defineCase } from '../case.ts';
import type { CaseContext } from '../context.ts';
import { drawFastCall, smallFastShape } from '../fast-inputs.ts';
import { drawInputs, smallShape } from '../inputs.ts';
import { exact, float32Attention } from '../tolerance.ts';
import { drawCall } from '../attend.ts';

const long = { ...smallShape, batch: 1, heads: 8, keyHeads: 8, queryLength: 600, keyLength: 600, queryDim: 64, keyDim: 64, valueDim: 64 };
const longRequest = { ...plainRequest, queryDim: 64, keyDim: 64, valueDim: 64 };
const outputDims = [2, 4, 5, 6] as const;
const bound = float32Attention.bound({ length: 7, dim: 8, dtype: 'f32' });

/** Making, using and ending backends, kernels and tensors. */
export const lifecycleCases: readonly Case[] = [
  defineCase({ name: 'lifecycle/dispose-kernel', plan: 'A disposed kernel rejects every call with disposed; disposing twice is allowed, and another kernel of the same request lives on.', tolerance: exact }, async (context) => {
    const inputs = drawInputs(context.random, smallShape);
    await context.assessed(context.backend, plainRequest);
    const first = await context.backend.prepare(plainRequest);
    const second = await context.kernel(plainRequest);
    const before = await context.numbers(await first.run(inputs));
    await first.dispose();
    await first.dispose();
    await refusesEverything(context, first);
    context.sameBits('the other kernel', (await context.numbers(await second.run(inputs))).output, before.output);
  }),
  defineCase({ name: 'lifecycle/dispose-backend', plan: 'A disposed backend rejects prepare, and its kernels every call, with disposed; disposing twice is allowed.', tolerance: exact }, async (context) => {
    const own = await context.own();
    await context.assessed(own, plainRequest);
    const kernel = await own.prepare(plainRequest);
    const inputs = drawInputs(context.random, smallShape);
    await kernel.run(inputs);
    await own.dispose();
    await own.dispose();
    await context.refuses('prepare', () => own.prepare(plainRequest), 'disposed');
    await context.refuses('run', () => kernel.run(inputs), 'disposed');
  }),
  defineCase({ name: 'lifecycle/dispose-runtime', plan: 'A disposed runtime rejects tensor, upload and read with disposed; disposing twice is allowed.', tolerance: exact }, async (context) => {
    const { runtime } = await context.own();
    const made = runtime.tensor([2], 'f32');
    await runtime.dispose();
    await runtime.dispose();
    await context.refuses('tensor', () => runtime.tensor([2], 'f32'), 'disposed');
    await context.refuses('upload', () => runtime.upload(tensor([1], [1])), 'disposed');
    await context.refuses('read', () => runtime.read(made), 'disposed');
  }),
  defineCase({ name: 'lifecycle/dispose-waits', plan: 'A kernel that is disposed while a call runs lets it end: the result is right.', tolerance: float32Attention }, async (context) => {
    await context.assessed(context.backend, plainRequest);
    const inputs = drawInputs(context.random, smallShape);
    const kernel = await context.backend.prepare(plainRequest);
    const pending = kernel.run(inputs);
    const disposed = kernel.dispose();
    const got = await context.numbers(await context.soon('the call that was running', pending));
    await context.soon('dispose', disposed);
    context.close('output', got.output, (await context.expected(plainRequest, inputs)).output, bound);
  }),
  defineCase({ name: 'lifecycle/concurrent', laws: ['L14'], plan: 'Eight calls of different sizes at once on one kernel, and three kernels made at once, give what each gives alone, bit for bit.', tolerance: exact }, async (context) => {
    const kernel = await context.kernel(plainRequest);
    const calls = Array.from({ length: 8 }, (_, index) => drawInputs(context.random, { ...smallShape, queryLength: 1 + 9 * index, keyLength: 70 - 7 * index }));
    const alone = [];
    for (const inputs of calls) alone.push(await context.numbers(await kernel.run(inputs)));
    const together = await context.soon('eight calls', Promise.all(calls.map((inputs) => kernel.run(inputs))));
    for (const [index, outputs] of together.entries()) context.sameBits(`call ${index}`, (await context.numbers(outputs)).output, alone[index]?.output);
    const [first] = calls;
    if (first === undefined) return;
    const kernels = await Promise.all([context.kernel(plainRequest), context.kernel({ ...plainRequest, variant: attention({ normalization: softmax({ temperature: 1 }) }) }), context.kernel(plainRequest)]);
    for (const other of kernels) context.close('another kernel', (await context.numbers(await other.run(first))).output, alone[0]?.output, bound);
  }),
  defineCase({ name: 'lifecycle/aborted-before', needs: ['attention', 'abort'], plan: 'A signal that is aborted already: the call rejects with aborted, and the kernel still works.', tolerance: exact }, async (context) => {
    const kernel = await context.kernel(plainRequest);
    const inputs = drawInputs(context.random, smallShape);
    const before = await context.numbers(await kernel.run(inputs));
    await context.refuses('run', () => kernel.run(inputs, { signal: AbortSignal.abort() }), 'aborted');
    context.sameBits('the next call', (await context.numbers(await context.soon('the next call', kernel.run(inputs)))).output, before.output);
  }),
  defineCase({ name: 'lifecycle/aborted-during', needs: ['attention', 'abort'], plan: 'A long call whose signal is aborted rejects with aborted, unless it had ended before; the next call is right, and no listener stays on the signal.', tolerance: float32Attention }, async (context) => {
    const kernel = await context.kernel(longRequest);
    const inputs = drawInputs(context.random, long);
    const controller = new AbortController();
    const { signal, listeners } = watched(controller.signal);
    const pending = kernel.run(inputs, { signal });
    controller.abort();
    let stopped = false;
    try {
      await context.soon('an aborted call', pending);
    } catch (error) {
      stopped = isAttentionError(error, 'aborted');
      if (!stopped) throw error;
    }
    context.check(stopped || context.backend.capabilities.abort, () => 'The call was not stopped.');
    context.check(listeners() === 0, () => `${listeners()} listeners stay on the signal.`);
    const small = drawInputs(context.random, { ...smallShape, queryDim: 64, keyDim: 64, valueDim: 64 });
    const got = await context.numbers(await context.soon('the next call', kernel.run(small)));
    context.close('the next call', got.output, (await context.expected(longRequest, small)).output, float32Attention.bound({ length: 7, dim: 64, dtype: 'f32' }));
  }),
  defineCase({ name: 'lifecycle/aborted-soon', needs: ['attention', 'abort'], plan: 'A call of about 12 GFLOP that is aborted after 5 ms rejects with aborted, unless it took less than 100 ms.', tolerance: exact }, async (context) => {
    const kernel = await context.kernel(longRequest);
    const { query, key, value } = drawInputs(context.random, long);
    const repeated = (source: HostTensor): HostTensor => restride(source, [16, ...source.shape.slice(1)], [0, ...source.strides.slice(1)]);
    const controller = new AbortController();
    const start = performance.now();
    const pending = kernel.run({ query: repeated(query), key: repeated(key), value: repeated(value) }, { signal: controller.signal });
    setTimeout(() => {
      controller.abort();
    }, 5);
    try {
      await pending;
      context.check(performance.now() - start < 100, () => `The call ran for ${performance.now() - start} ms after it was aborted.`);
    } catch (error) {
      if (!isAttentionError(error, 'aborted')) throw error;
    }
  }),
  defineCase({ name: 'lifecycle/memory', plan: 'Twenty calls with host inputs, then disposing the kernel, leave the runtime with the bytes it had.', tolerance: exact }, async (context) => {
    const { runtime } = context.backend;
    const held = runtime.memory().bytes;
    await context.assessed(context.backend, plainRequest);
    const kernel = await context.backend.prepare(plainRequest);
    for (let count = 0; count < 20; count++) await kernel.run(drawInputs(context.random, smallShape));
    await runtime.idle();
    await kernel.dispose();
    context.check(runtime.memory().bytes === held, () => `The runtime holds ${runtime.memory().bytes} bytes; it held ${held}.`);
    context.check(runtime.memory().peakBytes >= runtime.memory().bytes, () => 'The peak is below what is held.');
  }),
  defineCase({ name: 'lifecycle/memory-of-tensors', plan: 'Uploading adds the bytes of the tensor, releasing takes them away; a released tensor is refused with disposed.', tolerance: exact }, async (context) => {
    const { runtime } = context.backend;
    const held = runtime.memory().bytes;
    const made = runtime.upload(tensor(new Float32Array(1000), [10, 100]));
    context.check(runtime.memory().bytes >= held + 4000, () => `Uploading 4000 bytes added ${runtime.memory().bytes - held}.`);
    runtime.release(made);
    context.check(runtime.memory().bytes === held, () => `After release the runtime holds ${runtime.memory().bytes - held} bytes more.`);
    await context.refuses('read of a released tensor', () => runtime.read(made), 'disposed', 'invalid-tensor');
  }),
  defineCase({ name: 'lifecycle/upload-copies', plan: 'What is uploaded is a copy: the host may change its array at once.', tolerance: exact }, async (context) => {
    const { runtime } = context.backend;
    const source = tensor([1, 2, 3, 4, 5, 6], [2, 3]);
    const made = runtime.upload(source);
    source.view().fill(9);
    context.sameBits('elements', await context.values(made), [1, 2, 3, 4, 5, 6]);
    runtime.release(made);
  }),
  defineCase({ name: 'lifecycle/on-the-runtime', plan: 'Query, key and value that live on the runtime give outputs that live there, of the same bits; releasing them all gives the memory back.', tolerance: exact }, async (context) => {
    const { runtime } = context.backend;
    const kernel = await context.kernel(plainRequest);
    const inputs = drawInputs(context.random, smallShape);
    const host = await context.numbers(await kernel.run(inputs));
    const held = runtime.memory().bytes;
    const uploaded = { query: runtime.upload(inputs.query), key: runtime.upload(inputs.key), value: runtime.upload(inputs.value) };
    const outputs = await kernel.run(uploaded);
    context.check(outputs.output.runtime === runtime, () => 'The output does not live on the runtime of the query.');
    context.sameBits('output', await context.values(outputs.output), host.output);
    for (const made of [...Object.values(uploaded), outputs.output, outputs.logSumExp]) if (made !== undefined) runtime.release(made);
    context.check(runtime.memory().bytes === held, () => `${runtime.memory().bytes - held} bytes stay.`);
  }),
  defineCase({ name: 'lifecycle/on-the-host', plan: 'A host query gives host outputs.', tolerance: exact }, async (context) => {
    const kernel = await context.kernel(plainRequest);
    const outputs = await kernel.run(drawInputs(context.random, smallShape));
    context.check(isHostTensor(outputs.output) && outputs.output.runtime === null, () => 'The output of a host query is not a tensor of the host.');
    context.check(outputs.output.shape.join() === outputDims.join(), () => `The output has shape [${outputs.output.shape.join(', ')}].`);
    context.check(outputs.output.dtype === 'f32', () => `The output is ${outputs.output.dtype}.`);
  }),
  defineCase({ name: 'lifecycle/enqueue', laws: ['L14'], plan: 'enqueue returns tensors of the runtime at once, with the bits of run; host inputs may change as soon as it returns.', tolerance: exact }, async (context) => {
    const { runtime } = context.backend;
    const kernel = await context.kernel(plainRequest);
    const inputs = drawInputs(context.random, smallShape);
    const want = await context.numbers(await kernel.run(inputs));
    const outputs = kernel.enqueue(inputs);
    for (const source of [inputs.query, inputs.key, inputs.value]) source.view().fill(Number.NaN);
    context.check(outputs.output.runtime === runtime, () => 'The output is not a tensor of the runtime.');
    await runtime.idle();
    context.sameBits('output', await context.values(outputs.output), want.output);
    releaseOwned(context.backend, outputs.output, outputs.logSumExp);
  }),
  defineCase({ name: 'lifecycle/run-copies', plan: 'Host inputs of run may change as soon as it has returned its promise.', tolerance: exact }, async (context) => {
    const kernel = await context.kernel(plainRequest);
    const inputs = drawInputs(context.random, smallShape);
    const want = await context.numbers(await kernel.run(inputs));
    const pending = kernel.run(inputs);
    for (const source of [inputs.query, inputs.key, inputs.value]) source.view().fill(Number.NaN);
    context.sameBits('output', (await context.numbers(await pending)).output, want.output);
  }),
  defineCase({ name: 'lifecycle/in-order', plan: 'Two calls enqueued without waiting, the second attending with the output of the first: done in order.', tolerance: float32Attention }, async (context) => {
    const { backend } = context;
    const request = { ...plainRequest, valueDim: 8 };
    const kernel = await context.kernel(request);
    const inputs = drawInputs(context.random, { ...smallShape, valueDim: 8 });
    const uploaded = { query: backend.runtime.upload(inputs.query), key: backend.runtime.upload(inputs.key), value: backend.runtime.upload(inputs.value) };
    const first = kernel.enqueue(uploaded);
    const second = kernel.enqueue({ ...uploaded, query: first.output });
    const want = await context.expected(request, inputs);
    const chained = await context.expected(request, { ...inputs, query: tensor(Float32Array.from(want.output), [2, 4, 5, 8]) });
    context.close('output of the second', await context.values(second.output), chained.output, float32Attention.bound({ length: 14, dim: 8, dtype: 'f32', score: 8 }));
    releaseOwned(backend, ...Object.values(uploaded), first.output, first.logSumExp, second.output, second.logSumExp);
  }),
  defineCase({ name: 'lifecycle/into', plan: 'Outputs are written to the tensors given, every element of them: they held NaN before.', tolerance: exact }, async (context) => {
    const { backend } = context;
    const kernel = await context.kernel(plainRequest);
    const inputs = drawInputs(context.random, smallShape);
    const want = await context.numbers(await kernel.run(inputs));
    const output = backend.runtime.upload(tensor(new Float32Array(240).fill(Number.NaN), outputDims));
    const logSumExp = backend.runtime.upload(tensor(new Float32Array(40).fill(Number.NaN), [2, 4, 5]));
    const into = backend.capabilities.logSumExp ? { output, logSumExp } : { output };
    for (let count = 0; count < 2; count++) {
      const outputs = kernel.enqueue(inputs, { into });
      context.check(outputs.output === output, () => 'The output is another tensor than the one given.');
      context.sameBits('output', await context.values(output), want.output);
      if (backend.capabilities.logSumExp) context.sameBits('logSumExp', await context.values(logSumExp), want.logSumExp);
    }
    releaseOwned(backend, output, logSumExp);
  }),
  ...[1, 3, 17, 63, 65, 127].map((queryLength) =>
    defineCase({ name: 'lifecycle/whole-output', parameters: { lq: queryLength }, laws: ['L14'], plan: `Every element of an output of ${queryLength} rows, 7 channels and 3 heads is written: a tensor of NaN is filled, and no run sees what another left.`, tolerance: float32Attention }, async (context) => {
      const shape = { ...smallShape, batch: 1, heads: 3, keyHeads: 1, queryLength, valueDim: 7 };
      const call = drawCall(context, attention({ scoring: scaledDot().modify(alibi()), masking: causal() }), shape, { inputs: { queryOffset: 3 } });
      const kernel = await context.kernel(call.request);
      const output = context.backend.runtime.upload(tensor(new Float32Array(21 * queryLength).fill(Number.NaN), [1, 3, queryLength, 7]));
      kernel.enqueue(call.inputs, { into: { output } });
      const want = await context.expected(call.request, call.inputs);
      // ALiBi takes up to 0.25 · 130 from a score.
      context.close('output', await context.values(output), want.output, float32Attention.bound({ length: 7, dim: 8, dtype: 'f32', score: 32 }));
      releaseOwned(context.backend, output);
    }),
  ),
  defineCase({ name: 'lifecycle/shapes-of-one-kernel', plan: 'One kernel serves prefill, decode, another batch and nothing at all, in any order.', tolerance: float32Attention }, async (context) => {
    const variant = attention({ masking: causal() });
    const request = { ...plainRequest, variant };
    const kernel = await context.kernel(request);
    for (const [batch, queryLength, keyLength] of [[2, 9, 9], [1, 1, 33], [3, 2, 5], [1, 0, 4], [1, 40, 40], [2, 1, 1]] as const) {
      const inputs = { ...drawInputs(context.random, { ...smallShape, batch, queryLength, keyLength }), queryOffset: 'end' as const };
      context.close(`${batch} × ${queryLength} × ${keyLength}`, (await context.numbers(await kernel.run(inputs))).output, (await context.expected(request, inputs)).output, float32Attention.bound({ length: 40, dim: 8, dtype: 'f32' }));
    }
  }),
  defineCase({ name: 'lifecycle/explain', plan: 'explain names the backend and gives a plan in sentences, for a shape and for inputs.', tolerance: exact }, async (context) => {
    const kernel = await context.kernel(plainRequest);
    for (const about of [{ batch: 2, heads: 4, keyHeads: 2, queryLength: 5, keyLength: 7 }, drawInputs(context.random, smallShape)]) {
      const explanation = kernel.explain(about);
      context.check(explanation.backend.length > 0 && explanation.plan.length > 0, () => 'The explanation is empty.');
      const { tiles } = explanation;
      if (tiles !== undefined) context.check(tiles.empty + tiles.full + tiles.mixed === tiles.total, () => `The tiles do not add up: ${JSON.stringify(tiles)}.`);
    }
  }),
  defineCase({ name: 'lifecycle/kernel-request', plan: 'A kernel carries its request and has every method of the contract.', tolerance: exact }, async (context) => {
    const kernel = await context.kernel(plainRequest);
    context.check(kernel.request.variant.structure === plainRequest.variant.structure, () => 'The request of the kernel is another one.');
    for (const method of ['enqueue', 'run', 'partial', 'transformKeys', 'backward', 'explain', 'dispose'] as const) context.check(typeof kernel[method] === 'function', () => `The kernel has no ${method}.`);
  }),
  defineCase({ name: 'lifecycle/fast-weights', laws: ['L14'], needs: ['fastWeights'], plan: 'A kernel of fast weights: two runs and a run of a second kernel give the same bits; a disposed one rejects with disposed.', tolerance: exact }, async (context) => {
    const call = drawFastCall(context.random, fastWeights({ rule: gatedDeltaRule(), transformKey: [l2Norm()] }), smallFastShape);
    await context.assessed(context.backend, call.request);
    const kernel = await context.backend.prepare(call.request);
    const second = await context.fastKernel(call.request);
    const first = await context.fastNumbers(await kernel.run(call.inputs));
    for (const other of [kernel, second]) {
      const again = await context.fastNumbers(await other.run(call.inputs));
      context.sameBits('output', again.output, first.output);
      for (const [name, state] of Object.entries(first.state)) context.sameBits(`state ${name}`, again.state[name], state);
    }
    await kernel.dispose();
    await kernel.dispose();
    await context.refuses('run', () => kernel.run(call.inputs), 'disposed');
    context.sameBits('the other kernel', (await context.fastNumbers(await second.run(call.inputs))).output, first.output);
  }),
];

async function refusesEverything(context: CaseContext, kernel: AttentionKernel): Promise<void> {
  const inputs = drawInputs(context.random, smallShape);
  await context.refuses('run', () => kernel.run(inputs), 'disposed');
  await context.refuses('enqueue', () => kernel.enqueue(inputs), 'disposed');
  if (context.backend.capabilities.partial) await context.refuses('partial', () => kernel.partial(inputs), 'disposed');
  if (context.backend.capabilities.transformKeys) await context.refuses('transformKeys', () => kernel.transformKeys({ key: inputs.key }), 'disposed');
}

/** Gives back what lives on the runtime; host tensors have nothing to give back. */
function releaseOwned(backend: Backend, ...tensors: readonly (Tensor | undefined)[]): void {
  for (const made of tensors) if (made?.runtime === backend.runtime) backend.runtime.release(made);
}

/** The signal with a count of the listeners that are on it. */
function watched(signal: AbortSignal): { readonly signal: StopSignal; readonly listeners: () => number } {
  let count = 0;
  return {
    listeners: () => count,
    signal: {
      get aborted() {
        return signal.aborted;
      },
      get reason(): unknown {
        return signal.reason as unknown;
      },
      addEventListener: (type, listener) => {
        count++;
        signal.addEventListener(type, listener);
      },
      removeEventListener: (type, listener) => {
        count--;
        signal.removeEventListener(type, listener);
      },
    },
  };
}
