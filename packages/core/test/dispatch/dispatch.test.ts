import { describe, expect, test } from 'vitest';
import type { Assessment, AttentionInputs, AttentionKernel, AttentionOutputs, AttentionRequest, Backend, CallShape, Capabilities, Request, Runtime, Saved } from '../../src/backend.ts';
import { contractVersion } from '../../src/backend.ts';
import { dispatch } from '../../src/dispatch.ts';
import { isAttentionError } from '../../src/errors.ts';
import { createHostRuntime } from '../../src/reference/runtime.ts';
import type { ErrorCode } from '../../src/errors.ts';
import { zeros } from '../../src/tensor.ts';
import { expectRefusal, inputsOf, requestOf } from '../validate/calls.ts';

const capabilities: Capabilities = {
  variants: ['attention'], dtypes: ['f32'], logSumExp: true, partial: false, blocks: false, edges: false, packed: false, explicitPositions: false, transformKeys: false, observe: [],
  keyMass: false, gradients: false, storage: ['contiguous'], abort: true, nonFinite: 'exact', deterministic: true, maxDim: 64,
};

interface Behaviour {
  readonly runtime: Runtime;
  /** Cost of a call; null refuses the shape. */
  readonly cost?: (shape: CallShape) => number | null;
  readonly supports?: (request: AttentionRequest) => boolean;
  readonly capabilities?: Partial<Capabilities>;
  readonly prepareError?: Error;
  readonly log?: string[];
}

/** A backend that does nothing but say who was asked. */
function backendOf(name: string, behaviour: Behaviour): Backend {
  const { runtime, cost, supports = () => true, log = [] } = behaviour;
  const assess = (request: Request, shape?: CallShape): Assessment => {
    if (!supports(request as AttentionRequest)) return { supported: false, refusals: [{ stage: 'dims', reason: `${name} dislikes it`, remedy: 'another width' }] };
    if (shape === undefined || cost === undefined) return { supported: true, plan: `plan of ${name}` };
    const milliseconds = cost(shape);
    if (milliseconds === null) return { supported: false, refusals: [{ stage: 'shape', reason: `${name} is too small`, remedy: 'shorter' }] };
    return { supported: true, plan: `plan of ${name}`, cost: { flops: 1, bytes: 1, peakBytes: 1, milliseconds } };
  };
  const prepare = async (request: AttentionRequest): Promise<AttentionKernel> => {
    if (behaviour.prepareError !== undefined) throw behaviour.prepareError;
    log.push(`${name} prepare`);
    const note = (what: string): void => void log.push(`${name} ${what}`);
    const outputs = (): AttentionOutputs => ({ output: zeros([1]), saved: Object.freeze({}) as Saved });
    return {
      request,
      mergeClass: 'logSumExp',
      enqueue: () => (note('enqueue'), outputs()),
      run: async () => (note('run'), outputs()),
      partial: async () => (note('partial'), { mergeClass: 'logSumExp', accumulator: zeros([1]), statistics: {} }),
      transformKeys: async () => (note('transformKeys'), zeros([1])),
      backward: async () => (note('backward'), {}),
      explain: () => ({ backend: name, plan: [`plan of ${name}`], alternatives: [{ name: 'split', reason: 'short' }], code: {} }),
      dispose: async () => {
        // Later, so that who does not wait for it is found out.
        await new Promise((resolve) => setTimeout(resolve, 1));
        note('dispose');
      },
    };
  };
  return { contract: contractVersion, name, runtime, capabilities: { ...capabilities, ...behaviour.capabilities }, assess, prepare: prepare as Backend['prepare'], dispose: async () => void log.push(`${name} backend dispose`) };
}

const coded = (code: ErrorCode, ...parts: readonly string[]) => (error: unknown): boolean => isAttentionError(error, code) && parts.every((part) => error.message.includes(part));
const request = requestOf();

describe('dispatch', () => {
  test('hands each call to the cheapest for its shape', async () => {
    const runtime = createHostRuntime();
    const log: string[] = [];
    const kernel = await dispatch([
      backendOf('far', { runtime, log, cost: ({ keyLength }) => 10 + keyLength * 0.01 }),
      backendOf('near', { runtime, log, cost: ({ keyLength }) => 1 + keyLength * 0.1 }),
    ]).prepare(request);
    log.length = 0;
    await kernel.run(inputsOf({ queryLength: 10 }));
    await kernel.run(inputsOf({ queryLength: 10, keyLength: 500 }));
    kernel.enqueue(inputsOf({ queryLength: 10, keyLength: 99 }));
    expect(log).toEqual(['near run', 'far run', 'near enqueue']);
  });

  test('prefers the first where costs are equal or unknown', async () => {
    const runtime = createHostRuntime();
    for (const cost of [undefined, () => 3]) {
      const log: string[] = [];
      const known = cost === undefined ? {} : { cost };
      const kernel = await dispatch([backendOf('a', { runtime, log, ...known }), backendOf('b', { runtime, log, ...known })]).prepare(request);
      await kernel.run(inputsOf());
      expect(log.at(-1)).toBe('a run');
    }
  });

  test('asks only backends that support the request, and that take what the call brings', async () => {
    const runtime = createHostRuntime();
    const log: string[] = [];
    const kernel = await dispatch([
      backendOf('narrow', { runtime, log, cost: () => 1, supports: ({ queryDim }) => queryDim > 4 }),
      backendOf('plain', { runtime, log, cost: () => 2 }),
      backendOf('rich', { runtime, log, cost: () => 3, capabilities: { packed: true, explicitPositions: true, blocks: true, partial: true, transformKeys: true } }),
      backendOf('small', { runtime, log, cost: ({ keyLength }) => (keyLength > 3 ? null : 0) }),
    ]).prepare(request);
    expect(log).toEqual(['plain prepare', 'rich prepare', 'small prepare']);
    log.length = 0;
    await kernel.run(inputsOf({ queryLength: 3 }));
    await kernel.run(inputsOf());
    await kernel.run(inputsOf({ batch: 1 }, { packed: { query: [0, 5], key: [0, 5] } }));
    await kernel.run(inputsOf({}, { queryPositions: zeros([1, 5], 'i32') }));
    await kernel.partial(inputsOf());
    await kernel.transformKeys({ key: zeros([2, 2, 5, 4]) });
    await kernel.run(inputsOf({}, { keysTransformed: true }));
    expect(log).toEqual(['small run', 'plain run', 'rich run', 'rich run', 'rich partial', 'rich transformKeys', 'rich run']);
  });

  test('refuses loudly what none takes, naming every reason', async () => {
    const runtime = createHostRuntime();
    const backends = dispatch([backendOf('a', { runtime, cost: ({ keyLength }) => (keyLength > 3 ? null : 0) }), backendOf('b', { runtime, supports: () => false })]);
    const kernel = await backends.prepare(request);
    await expect(kernel.run(inputsOf())).rejects.toSatisfy(coded('unsupported', 'a: shape: a is too small', 'b: dims: b dislikes it'));
    expectRefusal(() => kernel.enqueue(inputsOf({ queryLength: 2 }, { edges: { starts: zeros([3], 'i32'), keys: zeros([0], 'i32') } })), 'unsupported', 'edges');
    await expect(dispatch([backendOf('b', { runtime, supports: () => false })]).prepare(request)).rejects.toSatisfy(coded('unsupported', 'b dislikes it', 'another width'));
    const assessed = dispatch([backendOf('b', { runtime, supports: () => false })]).assess(request);
    expect(assessed).toEqual({ supported: false, refusals: [{ stage: 'dims', reason: 'b: b dislikes it', remedy: 'another width' }] });
  });

  test('explains why each other was not picked', async () => {
    const runtime = createHostRuntime();
    const backends = dispatch([
      backendOf('slow', { runtime, cost: () => 7 }),
      backendOf('fast', { runtime, cost: () => 2 }),
      backendOf('none', { runtime, supports: () => false }),
      backendOf('equal', { runtime, cost: () => 2 }),
    ]);
    const kernel = await backends.prepare(request);
    const explanation = kernel.explain(inputsOf());
    expect(explanation.backend).toBe('fast');
    expect(explanation.plan).toEqual(['dispatch picks fast', 'plan of fast']);
    expect(explanation.alternatives).toEqual([
      { name: 'slow', reason: 'estimated 7 ms, fast 2 ms' },
      { name: 'none', reason: 'dims: none dislikes it (another width)' },
      { name: 'equal', reason: 'no cheaper than fast, which stands first' },
      { name: 'split', reason: 'short' },
    ]);
    expect(kernel.explain({ batch: 1, heads: 1, keyHeads: 1, queryLength: 1, keyLength: 1 }).backend).toBe('fast');
    expect(backends.assess(request, { batch: 1, heads: 1, keyHeads: 1, queryLength: 1, keyLength: 1 })).toMatchObject({ supported: true, plan: expect.stringContaining('fast: plan of fast; not slow: estimated 7 ms') as string, cost: { milliseconds: 2 } });
  });

  test('sends a gradient to the kernel that computed the output', async () => {
    const runtime = createHostRuntime();
    const log: string[] = [];
    const kernel = await dispatch([backendOf('a', { runtime, log, cost: ({ keyLength }) => keyLength }), backendOf('b', { runtime, log, cost: () => 4 })]).prepare(request);
    const short = kernel.enqueue(inputsOf({ queryLength: 3 }));
    const long = await kernel.run(inputsOf());
    await kernel.backward(inputsOf(), long.saved!, { output: zeros([1]) });
    await kernel.backward(inputsOf(), short.saved!, { output: zeros([1]) });
    expect(log.slice(-2)).toEqual(['b backward', 'a backward']);
    await expect(kernel.backward(inputsOf(), Object.freeze({}) as Saved, { output: zeros([1]) })).rejects.toSatisfy(coded('invalid-argument', 'saved'));
  });

  test('lets nothing go when one backend fails to prepare', async () => {
    const runtime = createHostRuntime();
    const log: string[] = [];
    const lost = new Error('lost');
    await expect(dispatch([backendOf('a', { runtime, log }), backendOf('b', { runtime, log, prepareError: lost })]).prepare(request)).rejects.toBe(lost);
    expect(log).toEqual(['a prepare', 'a dispose']);
  });

  test('gives garbage to a kernel, which says what is wrong with it', async () => {
    const runtime = createHostRuntime();
    const log: string[] = [];
    const kernel = await dispatch([backendOf('a', { runtime, log, cost: () => 1, capabilities: { packed: true } })]).prepare(request);
    for (const garbage of [null, 3, {}, { query: null, key: 1 }, { query: { shape: 'x' }, key: {} }, { ...inputsOf(), packed: 3 }]) await kernel.run(garbage as unknown as AttentionInputs);
    expect(log.filter((line) => line === 'a run')).toHaveLength(6);
    for (const garbage of [null, {}, { variant: {} }, { ...request, queryDim: 0 }]) await expect(dispatch([backendOf('a', { runtime })]).prepare(garbage as AttentionRequest)).rejects.toSatisfy((error) => isAttentionError(error));
  });

  test('checks what it is given when it is given', () => {
    const runtime = createHostRuntime();
    expectRefusal(() => dispatch([]), 'invalid-argument');
    expectRefusal(() => dispatch([backendOf('a', { runtime }), backendOf('b', { runtime: createHostRuntime() })]), 'invalid-argument', "'a'", "'b'");
    expectRefusal(() => dispatch([{ ...backendOf('old', { runtime }), contract: 'heed/0' as never }]), 'contract-version', "'old'", 'heed/0', contractVersion);
  });

  test('can what one can, and promises what all keep', () => {
    const runtime = createHostRuntime();
    const joined = dispatch([
      backendOf('a', { runtime, capabilities: { dtypes: ['f32', 'f16'], blocks: true, nonFinite: 'unspecified', maxDim: 128 } }),
      backendOf('b', { runtime, capabilities: { abort: false, observe: ['weights'], dtypes: ['f32', 'bf16'] } }),
    ]);
    expect(joined.capabilities).toEqual({ ...capabilities, dtypes: ['f32', 'f16', 'bf16'], blocks: true, abort: false, nonFinite: 'unspecified', observe: ['weights'], maxDim: 128 });
    expect(joined).toMatchObject({ name: 'dispatch(a, b)', runtime, contract: contractVersion });
  });

  test('disposes of its kernels and leaves the backends alone', async () => {
    const runtime = createHostRuntime();
    const log: string[] = [];
    const backends = dispatch([backendOf('a', { runtime, log }), backendOf('b', { runtime, log })]);
    const [first, second] = [await backends.prepare(request), await backends.prepare(request)];
    log.length = 0;
    await first.dispose();
    expect(log).toEqual(['a dispose', 'b dispose']);
    await expect(first.run(inputsOf())).rejects.toSatisfy(coded('disposed'));
    await backends.dispose();
    await backends.dispose();
    await expect(second.run(inputsOf())).rejects.toSatisfy(coded('disposed'));
    await expect(backends.prepare(request)).rejects.toSatisfy(coded('disposed'));
    expect(log).not.toContain('a backend dispose');
  });
});
