import type { AttentionInputs, ErrorCode, HostTensor } from '@heed/core';
import { alibi, attention, booleanMask, causal, dot, fastWeights, gatedDeltaRule, isAttentionError, rope, scaledDot, softcap, softmax, tensor, zeros } from '@heed/core';
import { plainRequest } from '../capability.ts';
import type { Case, Law } from '../case.ts';
import { defineCase } from '../case.ts';
import type { CaseContext } from '../context.ts';
import { drawFastCall, smallFastShape } from '../fast-inputs.ts';
import { integerTensor, smallShape } from '../inputs.ts';
import { exact } from '../tolerance.ts';
import type { Call } from '../attend.ts';
import { drawCall } from '../attend.ts';

/** A change that makes a good call bad. */
interface Mistake {
  readonly plan: string;
  readonly codes: readonly ErrorCode[];
  readonly laws?: readonly Law[];
  readonly change: (inputs: Call['inputs']) => AttentionInputs;
}

const f32 = (shape: readonly number[]): HostTensor => zeros(shape);

/** A tensor that was not made by `tensor()`: its parts may be anything. */
function forged(parts: Readonly<Record<string, unknown>>): HostTensor {
  const array = new Float32Array(1000);
  return { dtype: 'f32', shape: [2, 4, 5, 8], strides: [160, 40, 8, 1], runtime: null, view: () => array, ...parts };
}

const mistakes: Readonly<Record<string, Mistake>> = {
  rank: { plan: 'a query of rank 3', codes: ['invalid-shape'], change: (inputs) => ({ ...inputs, query: f32([2, 5, 8]) }) },
  batch: { plan: 'a key of another batch', codes: ['invalid-shape'], change: (inputs) => ({ ...inputs, key: f32([3, 2, 7, 8]) }) },
  heads: { plan: '3 key heads for 4 heads', codes: ['invalid-shape'], laws: ['L6'], change: (inputs) => ({ ...inputs, key: f32([2, 3, 7, 8]), value: f32([2, 3, 7, 6]) }) },
  valueHeads: { plan: 'a value with other heads than the key', codes: ['invalid-shape'], change: (inputs) => ({ ...inputs, value: f32([2, 4, 7, 6]) }) },
  length: { plan: 'a value shorter than the key', codes: ['invalid-shape'], change: (inputs) => ({ ...inputs, value: f32([2, 2, 6, 6]) }) },
  queryDim: { plan: 'query rows wider than the request says', codes: ['invalid-shape'], change: (inputs) => ({ ...inputs, query: f32([2, 4, 5, 9]) }) },
  valueDim: { plan: 'value rows narrower than the request says', codes: ['invalid-shape'], change: (inputs) => ({ ...inputs, value: f32([2, 2, 7, 5]) }) },
  dtype: { plan: 'a float64 query where the request says float32', codes: ['invalid-dtype'], laws: ['L20'], change: (inputs) => ({ ...inputs, query: zeros([2, 4, 5, 8], 'f64') }) },
  unknownDtype: { plan: 'a query of the dtype f8', codes: ['invalid-dtype'], change: (inputs) => ({ ...inputs, query: forged({ dtype: 'f8' }) }) },
  shortBuffer: { plan: 'a query whose memory is shorter than its shape and strides', codes: ['invalid-tensor'], change: (inputs) => ({ ...inputs, query: forged({ view: () => new Float32Array(319) }) }) },
  noMemory: { plan: 'a query without memory', codes: ['invalid-tensor'], change: (inputs) => ({ ...inputs, query: forged({ view: undefined }) }) },
  negativeStride: { plan: 'a query with a negative stride', codes: ['invalid-tensor'], change: (inputs) => ({ ...inputs, query: forged({ strides: [160, 40, -8, 1] }) }) },
  fractionalShape: { plan: 'a query with a length of 2.5', codes: ['invalid-tensor', 'invalid-shape'], change: (inputs) => ({ ...inputs, query: forged({ shape: [2, 4, 2.5, 8] }) }) },
  notATensor: { plan: 'a plain array for the key', codes: ['invalid-tensor'], change: (inputs) => ({ ...inputs, key: [1, 2, 3] as unknown as HostTensor }) },
  noQuery: { plan: 'no query', codes: ['invalid-tensor', 'invalid-argument'], change: ({ key, value }) => ({ key, value }) as unknown as AttentionInputs },
  negativeLength: { plan: 'a key length of −1', codes: ['invalid-lengths'], change: (inputs) => ({ ...inputs, keyLengths: [7, -1] }) },
  fractionalLength: { plan: 'a key length of 3.5', codes: ['invalid-lengths'], change: (inputs) => ({ ...inputs, keyLengths: [3.5, 7] }) },
  longLength: { plan: 'a key length beyond the rows', codes: ['invalid-lengths'], change: (inputs) => ({ ...inputs, keyLengths: [8, 7] }) },
  lengthCount: { plan: 'three key lengths for two sequences', codes: ['invalid-lengths'], change: (inputs) => ({ ...inputs, keyLengths: [7, 7, 7] }) },
  queryLength: { plan: 'a query length beyond the rows', codes: ['invalid-lengths'], change: (inputs) => ({ ...inputs, queryLengths: [5, 6] }) },
  totalLength: { plan: 'a whole sequence shorter than its shard', codes: ['invalid-lengths'], laws: ['L13'], change: (inputs) => ({ ...inputs, totalKeyLengths: [7, 6] }) },
  noOffset: { plan: 'no offset, with 5 queries on 7 keys and a mask that reads positions', codes: ['ambiguous-offset'], laws: ['L3'], change: ({ query, key, value, tables }) => ({ query, key, value, ...(tables === undefined ? {} : { tables }) }) },
  fractionalOffset: { plan: 'an offset of 0.5', codes: ['invalid-positions'], laws: ['L3'], change: (inputs) => ({ ...inputs, queryOffset: 0.5 }) },
  wordOffset: { plan: "the offset 'middle'", codes: ['invalid-positions'], laws: ['L3'], change: (inputs) => ({ ...inputs, queryOffset: 'middle' as 'end' }) },
  offsetCount: { plan: 'three offsets for two sequences', codes: ['invalid-positions'], change: (inputs) => ({ ...inputs, queryOffset: [1, 2, 3] }) },
  farOffset: { plan: 'an offset beyond 32 bits', codes: ['invalid-positions'], change: (inputs) => ({ ...inputs, keyOffset: 2 ** 33 }) },
  missingTable: { plan: 'a table that is missing', codes: ['missing-table'], change: ({ tables, ...inputs }) => ({ ...inputs, tables: tables?.['mask'] === undefined ? {} : { mask: tables['mask'] } }) },
  tableShape: { plan: 'slopes for three heads of four', codes: ['invalid-table'], change: (inputs) => ({ ...inputs, tables: { ...inputs.tables, slopes: tensor([1, 2, 3], [3]) } }) },
  tableRank: { plan: 'slopes of rank 2', codes: ['invalid-table'], change: (inputs) => ({ ...inputs, tables: { ...inputs.tables, slopes: f32([1, 4]) } }) },
  tableDtype: { plan: 'slopes of i32', codes: ['invalid-table'], change: (inputs) => ({ ...inputs, tables: { ...inputs.tables, slopes: integerTensor([1, 1, 1, 1], [4]) } }) },
  boolTable: { plan: 'a boolean table that holds a 2', codes: ['invalid-table'], laws: ['L10'], change: (inputs) => ({ ...inputs, tables: { ...inputs.tables, mask: integerTensor([1, 2, 0, 1, 1, 1, 1], [1, 1, 1, 7], 'u8') } }) },
  unknownTable: { plan: 'a table that the variant does not declare', codes: ['unknown-table'], laws: ['L20'], change: (inputs) => ({ ...inputs, tables: { ...inputs.tables, slope: tensor([1, 1, 1, 1], [4]) } }) },
  unknownUniform: { plan: 'a uniform that the variant does not declare', codes: ['unknown-uniform'], laws: ['L20'], change: (inputs) => ({ ...inputs, uniforms: { cap: 2 } }) },
  uniformNaN: { plan: 'NaN for a uniform', codes: ['invalid-uniform'], change: (inputs) => ({ ...inputs, uniforms: { 'softcap.cap': Number.NaN } }) },
  uniformText: { plan: 'text for a uniform', codes: ['invalid-uniform'], change: (inputs) => ({ ...inputs, uniforms: { 'softcap.cap': '3' as unknown as number } }) },
  headOffset: { plan: 'a head offset of −1.5', codes: ['invalid-argument'], change: (inputs) => ({ ...inputs, headOffset: -1.5 }) },
  observeNothing: { plan: 'rows to look at in a request that observes nothing', codes: ['invalid-argument'], laws: ['L20'], change: (inputs) => ({ ...inputs, observe: { rows: [0] } }) },
  pagesUnasked: { plan: 'pages for a request of contiguous keys', codes: ['invalid-argument', 'unsupported'], laws: ['L20'], change: (inputs) => ({ ...inputs, pages: { pages: integerTensor([0, 0], [2, 1]), pageLength: 7 } }) },
};

/** Mistakes in inputs that a backend may not take at all. */
const needful: Readonly<Record<string, Mistake & { readonly need: 'packed' | 'blocks' | 'edges' | 'explicitPositions' }>> = {
  positionsDtype: { need: 'explicitPositions', plan: 'positions of f32', codes: ['invalid-dtype', 'invalid-positions'], change: (inputs) => ({ ...inputs, queryPositions: f32([1, 5]) }) },
  positionsShape: { need: 'explicitPositions', plan: 'positions of another length', codes: ['invalid-positions'], change: (inputs) => ({ ...inputs, keyPositions: integerTensor([0, 1, 2], [1, 3]) }) },
  packedEnd: { need: 'packed', plan: 'cumulative offsets that do not end at the rows', codes: ['invalid-lengths', 'invalid-shape'], change: (inputs) => ({ ...inputs, packed: { query: [0, 2, 4], key: [0, 3, 7] } }) },
  packedOrder: { need: 'packed', plan: 'cumulative offsets that fall', codes: ['invalid-lengths', 'invalid-shape'], change: (inputs) => ({ ...inputs, packed: { query: [0, 4, 2, 5], key: [0, 3, 4, 7] } }) },
  packedBatch: { need: 'packed', plan: 'packed sequences in a batch of 2', codes: ['invalid-shape'], change: (inputs) => ({ ...inputs, packed: { query: [0, 2, 5], key: [0, 3, 7] }, queryOffset: 0 }) },
  blockRange: { need: 'blocks', plan: 'a key tile that does not exist', codes: ['invalid-blocks'], change: (inputs) => ({ ...inputs, blocks: { blockQuery: 5, blockKey: 7, counts: integerTensor([1], [1, 1, 1]), indices: integerTensor([1], [1, 1, 1, 1]) } }) },
  blockTwice: { need: 'blocks', plan: 'a key tile that is listed twice', codes: ['invalid-blocks'], change: (inputs) => ({ ...inputs, blocks: { blockQuery: 5, blockKey: 4, counts: integerTensor([2], [1, 1, 1]), indices: integerTensor([1, 1], [1, 1, 1, 2]) } }) },
  blockTiles: { need: 'blocks', plan: 'too few query tiles', codes: ['invalid-blocks'], change: (inputs) => ({ ...inputs, blocks: { blockQuery: 2, blockKey: 7, counts: integerTensor([1], [1, 1, 1]), indices: integerTensor([0], [1, 1, 1, 1]) } }) },
  edgeRange: { need: 'edges', plan: 'an edge from a key that does not exist', codes: ['invalid-edges'], laws: ['L17'], change: (inputs) => ({ ...inputs, edges: { starts: integerTensor([0, 1, 1, 1, 1, 1], [6]), keys: integerTensor([7], [1]) } }) },
  edgeStarts: { need: 'edges', plan: 'row starts that fall', codes: ['invalid-edges'], laws: ['L17'], change: (inputs) => ({ ...inputs, edges: { starts: integerTensor([0, 2, 1, 2, 2, 2], [6]), keys: integerTensor([0, 1], [2]) } }) },
  edgeTwice: { need: 'edges', plan: 'the same edge twice', codes: ['duplicate-edge'], laws: ['L17'], change: (inputs) => ({ ...inputs, edges: { starts: integerTensor([0, 2, 2, 2, 2, 2], [6]), keys: integerTensor([3, 3], [2]) } }) },
};

const variant = attention({ scoring: scaledDot().modify(softcap(3), alibi()), masking: causal().and(booleanMask()) });

/** Bad input: a typed error with its code, nothing leaked, and the kernel still works. */
export const errorCases: readonly Case[] = [
  ...Object.entries(mistakes).map(([name, mistake]) =>
    defineCase({ name: 'errors/input', parameters: { mistake: name }, laws: mistake.laws ?? [], plan: `${mistake.plan}: refused with ${mistake.codes.join(' or ')}; nothing leaks, and the next call gives the bits of the one before.`, tolerance: exact }, (context) => refuseAndGoOn(context, mistake)),
  ),
  ...Object.entries(needful).map(([name, mistake]) =>
    defineCase({ name: 'errors/input', parameters: { mistake: name }, laws: mistake.laws ?? [], needs: ['attention', mistake.need], plan: `${mistake.plan}: refused with ${mistake.codes.join(' or ')}; nothing leaks, and the next call gives the bits of the one before.`, tolerance: exact }, (context) => refuseAndGoOn(context, mistake)),
  ),
  ...Object.entries({
    fraction: { change: { queryDim: 2.5, keyDim: 2.5 }, codes: ['invalid-shape'] },
    negative: { change: { valueDim: -1 }, codes: ['invalid-shape'] },
    widths: { change: { queryDim: 8, keyDim: 7 }, codes: ['invalid-shape'] },
    dtype: { change: { dtypes: { query: 'f8' } }, codes: ['invalid-dtype'] },
    storage: { change: { storage: 'folded' }, codes: ['invalid-argument'] },
    stage: { change: { observe: { stages: ['logits'] } }, codes: ['invalid-argument'] },
    gradient: { change: { gradients: ['output'] }, codes: ['invalid-argument'] },
    variant: { change: { variant: { kind: 'attention' } }, codes: ['invalid-variant'] },
    noVariant: { change: { variant: undefined }, codes: ['invalid-variant', 'invalid-argument'] },
    rope: { change: { variant: attention({ scoring: scaledDot().transform(rope({ pairing: 'half' })) }), queryDim: 7, keyDim: 7 }, codes: ['invalid-shape'] },
  }).map(([name, { change, codes }]) =>
    defineCase({ name: 'errors/request', parameters: { mistake: name }, plan: `A request with ${name === 'rope' ? 'rotary positions on an odd width' : `a bad ${name}`} is refused by prepare with ${codes.join(' or ')}; the backend still works.`, tolerance: exact }, async (context) => {
      await context.refuses('prepare', () => context.backend.prepare({ ...plainRequest, ...change } as typeof plainRequest), ...codes);
      const call = drawCall(context, attention(), smallShape);
      context.check((await context.run(call.request, call.inputs)).output.length === 240, () => 'The next call fails.');
    }),
  ),
  defineCase({ name: 'errors/foreign', plan: 'A query of another runtime is refused with foreign-tensor; the kernel still works.', tolerance: exact }, async (context) => {
    const other = await context.own();
    const call = drawCall(context, attention(), smallShape);
    const kernel = await context.kernel(call.request);
    const foreign = other.runtime.upload(call.inputs.query);
    await context.refuses('run', () => kernel.run({ ...call.inputs, query: foreign }), 'foreign-tensor');
    context.check((await context.numbers(await kernel.run(call.inputs))).output.length === 240, () => 'The next call fails.');
  }),
  ...(['shape', 'dtype', 'overlap'] as const).map((mistake) =>
    defineCase({ name: 'errors/into', parameters: { mistake }, plan: `An output tensor of a wrong ${mistake} is refused, and not written to.`, tolerance: exact }, async (context) => {
      const call = drawCall(context, attention(), smallShape);
      const kernel = await context.kernel(call.request);
      const output = mistake === 'shape' ? zeros([2, 4, 5, 5]) : mistake === 'dtype' ? zeros([2, 4, 5, 6], 'f64') : tensor(new Float32Array(240), [2, 4, 5, 6], { strides: [0, 30, 6, 1] });
      await context.refuses('run', () => kernel.run(call.inputs, { into: { output } }), 'invalid-shape', 'invalid-dtype', 'invalid-tensor');
      context.zero('the tensor', output.view());
      context.check((await context.numbers(await kernel.run(call.inputs))).output.length === 240, () => 'The next call fails.');
    }),
  ),
  defineCase({ name: 'errors/typed', plan: 'Errors are AttentionErrors with a code, a message that says what was got, and a hint.', tolerance: exact }, async (context) => {
    const call = drawCall(context, attention(), smallShape);
    const kernel = await context.kernel(call.request);
    let caught: unknown;
    try {
      await kernel.run({ ...call.inputs, query: f32([2, 4, 5, 11]) });
    } catch (error) {
      caught = error;
    }
    context.check(isAttentionError(caught) && caught instanceof Error && caught.hint.length > 0 && caught.message.includes('11'), () => `Got ${String(caught)}.`);
  }),
  defineCase({ name: 'errors/run-rejects', plan: 'run rejects its promise; it does not throw.', tolerance: exact }, async (context) => {
    const kernel = await context.kernel(plainRequest);
    let promise: Promise<unknown> | undefined;
    try {
      promise = kernel.run({} as AttentionInputs);
    } catch (error) {
      context.check(false, () => `run threw ${String(error)}.`);
    }
    await context.refuses('run', () => promise, 'invalid-tensor', 'invalid-argument', 'invalid-shape');
  }),
  defineCase({ name: 'errors/many', laws: ['L14'], plan: 'A hundred refused calls, some of them at once with good ones, leave no trace: memory and bits are as before.', tolerance: exact }, async (context) => {
    const call = drawCall(context, attention({ normalization: softmax({ sink: true }) }), smallShape);
    const kernel = await context.kernel(call.request);
    const before = await context.numbers(await kernel.run(call.inputs));
    const held = context.backend.runtime.memory().bytes;
    const bad = { ...call.inputs, tables: {} };
    for (let count = 0; count < 25; count++) {
      const results = await context.soon('five calls at once', Promise.allSettled([kernel.run(bad), kernel.run(call.inputs), kernel.run(bad), kernel.run(bad), kernel.run(bad)]));
      context.check(results.filter((result) => result.status === 'rejected').length === 4, () => 'Not exactly the four bad calls were refused.');
    }
    context.sameBits('the next call', (await context.numbers(await kernel.run(call.inputs))).output, before.output);
    context.check(context.backend.runtime.memory().bytes === held, () => `The runtime holds ${context.backend.runtime.memory().bytes - held} bytes more.`);
  }),
  defineCase({ name: 'errors/saved', laws: ['L19'], needs: ['attention', 'gradients'], plan: 'backward refuses a saved that another kernel made.', tolerance: exact }, async (context) => {
    const call = drawCall(context, attention({ scoring: dot() }), smallShape);
    const request = { ...call.request, gradients: ['query'] } as const;
    const [first, second] = [await context.kernel(request), await context.kernel({ ...request, variant: attention() })];
    const { saved } = await first.run(call.inputs);
    context.check(saved !== undefined, () => 'The forward call saved nothing.');
    if (saved === undefined) return;
    await context.refuses('backward', () => second.backward(call.inputs, saved, { output: f32([2, 4, 5, 6]) }), 'invalid-argument');
    await context.refuses('a gradient of another shape', () => first.backward(call.inputs, saved, { output: f32([2, 4, 5, 5]) }), 'invalid-shape');
  }),
  ...Object.entries({
    rank: { codes: ['invalid-shape'], change: { query: f32([2, 17, 8]) } },
    valueHeads: { codes: ['invalid-shape'], change: { value: f32([2, 3, 17, 6]) } },
    missing: { codes: ['invalid-argument', 'invalid-tensor', 'missing-table'], change: { writeStrength: undefined } },
    decay: { codes: ['invalid-shape'], change: { logDecay: f32([2, 4, 16]) } },
    state: { codes: ['invalid-state', 'invalid-shape'], change: { state: { memory: f32([2, 4, 8, 5]) } } },
    stateName: { codes: ['invalid-state'], change: { state: { weight: f32([2, 4, 8, 6]) } } },
  }).map(([name, { codes, change }]) =>
    defineCase({ name: 'errors/fast-weights', parameters: { mistake: name }, needs: ['fastWeights'], plan: `Fast weights with a bad ${name}: refused with ${codes.join(' or ')}; the next call gives the bits of the one before.`, tolerance: exact }, async (context) => {
      const call = drawFastCall(context.random, fastWeights({ rule: gatedDeltaRule() }), smallFastShape);
      const kernel = await context.fastKernel(call.request);
      const before = await context.fastNumbers(await kernel.run(call.inputs));
      await context.refuses('run', () => kernel.run({ ...call.inputs, ...change } as typeof call.inputs), ...codes);
      context.sameBits('the next call', (await context.fastNumbers(await context.soon('the next call', kernel.run(call.inputs)))).output, before.output);
    }),
  ),
];

async function refuseAndGoOn(context: CaseContext, mistake: Mistake): Promise<void> {
  const call = drawCall(context, variant, smallShape, { inputs: { queryOffset: 2 } });
  const kernel = await context.kernel(call.request);
  const before = await context.numbers(await kernel.run(call.inputs));
  const held = context.backend.runtime.memory().bytes;
  const bad = mistake.change(call.inputs);
  await context.refuses('run', () => kernel.run(bad), ...mistake.codes);
  await context.refuses('enqueue', () => kernel.enqueue(bad), ...mistake.codes);
  const after = await context.numbers(await context.soon('the next call', kernel.run(call.inputs)));
  context.sameBits('the next call', after.output, before.output);
  context.check(context.backend.runtime.memory().bytes === held, () => `The runtime holds ${context.backend.runtime.memory().bytes - held} bytes more than before the error.`);
}
