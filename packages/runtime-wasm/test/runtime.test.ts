import { permute, slice, tensor, toFloat64, type HostTensor } from '@heed/core';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { instructions } from '../src/emit/instruction.ts';
import { ModuleBuilder } from '../src/emit/module.ts';
import { measureLimits } from '../src/limits.ts';
import { kernelParameters } from '../src/operations/words.ts';
import { createWasmRuntime, type WasmRuntime, type WasmRuntimeOptions } from '../src/runtime.ts';

const { i32 } = instructions;

const open: WasmRuntime[] = [];
afterEach(async () => {
  for (const runtime of open.splice(0)) await runtime.dispose();
  vi.unstubAllGlobals();
});

async function create(options: WasmRuntimeOptions = {}): Promise<WasmRuntime> {
  const runtime = await createWasmRuntime(options);
  open.push(runtime);
  return runtime;
}

const count = (shape: readonly number[]): number => shape.reduce((product, size) => product * size, 1);
const numbered = (shape: readonly number[]): HostTensor => tensor(Float32Array.from({ length: count(shape) }, (_, index) => index), shape);

/** `fill` writes the word at 4 to every number of 64 per task from the address at 0; `trap` traps. */
function programOf(runtime: WasmRuntime, key = 'test') {
  return runtime.program(key, ['fill', 'trap'], () => {
    const builder = new ModuleBuilder('test');
    builder.importMemory('env', 'memory', { shared: runtime.machine.shared });
    builder.function('fill', { parameters: kernelParameters, export: true }, (f, { task, words }) => {
      const index = f.local('index', 'i32');
      f.for(index, { to: 64 }, () => {
        f.do(i32.store(i32.add(i32.load(words), i32.shl(i32.add(i32.mul(task, 64), index), 2)), i32.load(words, 4)));
      });
    });
    builder.function('trap', { parameters: kernelParameters, export: true }, (f) => {
      f.op('unreachable');
    });
    return builder;
  });
}

describe('tensors', () => {
  test.each([1, 2])('go up and come back, dense or strided, in every dtype (%i threads)', async (threads) => {
    const runtime = await create({ threads });
    const host = numbered([2, 3, 4]);
    for (const source of [host, permute(host, [2, 0, 1]), slice(host, 2, 1, 3), tensor(Uint16Array.of(1, 2, 3), [3], { dtype: 'bf16' }), tensor(Int32Array.of(), [0, 5]), tensor(Float64Array.of(0.1), [])]) {
      const here = runtime.upload(source);
      expect([here.shape, here.dtype, here.runtime]).toEqual([source.shape, source.dtype, runtime]);
      expect([...here.view()]).toEqual([...(await runtime.read(here)).view()]);
      expect(toFloat64(await runtime.read(here))).toEqual(toFloat64(source));
      runtime.release(here);
    }
    expect(runtime.memory().bytes).toBe(0);
  });

  test('views of a tensor here are zero-copy, have an address, and follow the memory when it grows', async () => {
    const runtime = await create({ threads: 2 });
    const cache = runtime.upload(numbered([4, 6]));
    const row = slice(cache, 0, 2, 3);
    expect(runtime.addressOf(row) - runtime.addressOf(cache)).toBe(2 * 6 * 4);
    const before = runtime.memory().bytes;
    const big = runtime.tensor([2 ** 22], 'f32');
    expect(runtime.memory().bytes - before).toBe(2 ** 24);
    cache.view()[12] = 99;
    expect([...row.view().subarray(0, 6)]).toEqual([99, 13, 14, 15, 16, 17]);
    expect(toFloat64(await runtime.read(permute(cache, [1, 0])))[2]).toBe(99);
    runtime.release(big);
    runtime.release(cache);
    expect(() => row.view()).toThrow(expect.objectContaining({ code: 'disposed' }));
    expect(() => runtime.addressOf(row)).toThrow(expect.objectContaining({ code: 'disposed' }));
  });

  test('bad shapes and dtypes, foreign and released tensors are refused, and nothing leaks', async () => {
    const runtime = await create({ threads: 1, maximumBytes: 2 ** 21 });
    expect(() => runtime.tensor([-1], 'f32')).toThrow(expect.objectContaining({ code: 'invalid-shape' }));
    expect(() => runtime.tensor([1], 'f8' as never)).toThrow(expect.objectContaining({ code: 'invalid-dtype' }));
    expect(() => runtime.tensor([2 ** 22], 'f32')).toThrow(expect.objectContaining({ code: 'out-of-memory' }));
    expect(() => runtime.tensor([2 ** 30, 2 ** 30], 'f32')).toThrow(expect.objectContaining({ code: 'out-of-memory' }));
    expect(() => runtime.release(numbered([2]))).toThrow(expect.objectContaining({ code: 'foreign-tensor' }));
    await expect(runtime.read(numbered([2]))).rejects.toMatchObject({ code: 'foreign-tensor' });
    const made = runtime.tensor([4], 'f32');
    expect(() => runtime.release(slice(made, 0, 0, 2))).toThrow(expect.objectContaining({ code: 'disposed' }));
    runtime.release(made);
    expect(() => runtime.release(made)).toThrow(expect.objectContaining({ code: 'disposed' }));
    expect(runtime.memory().bytes).toBe(0);
  });
});

describe('work', () => {
  test.each([1, 2])('is done in order, and released memory is not used again before (%i threads)', async (threads) => {
    const runtime = await create({ threads });
    const { functions } = programOf(runtime);
    const tensors = Array.from({ length: 8 }, () => runtime.tensor([64 * 64], 'i32'));
    tensors.forEach((one, index) => {
      runtime.submit({ phases: [{ function: functions.fill, tasks: 64, arguments: [runtime.addressOf(one), index] }] }, { writes: [one] });
    });
    const copies = tensors.map((one) => {
      const copy = runtime.operations.copy(one);
      runtime.release(one);
      return copy;
    });
    // New tensors could stand where the released ones still are to be read.
    const others = Array.from({ length: 8 }, () => runtime.upload(tensor(new Int32Array(64 * 64).fill(-1), [64 * 64])));
    for (const [index, copy] of copies.entries()) {
      const got = await runtime.read(copy);
      expect(got.view().every((value) => value === index)).toBe(true);
    }
    for (const one of [...copies, ...others]) runtime.release(one);
    await runtime.idle();
    expect(runtime.memory().bytes).toBe(0);
  });

  test('a late error poisons what was to be written, and what is made of it, and is reported once', async () => {
    const runtime = await create({ threads: 2 });
    const { functions } = programOf(runtime);
    const [bad, good] = [runtime.upload(numbered([8])), runtime.upload(numbered([8]))];
    runtime.submit({ phases: [{ function: functions.trap, tasks: 4, arguments: [] }] }, { writes: [bad] });
    const made = runtime.operations.copy(bad);
    const well = runtime.operations.copy(good);
    await expect(runtime.read(bad)).rejects.toMatchObject({ code: 'worker-failed' });
    await expect(runtime.read(slice(bad, 0, 2, 4))).rejects.toMatchObject({ code: 'worker-failed' });
    await expect(runtime.read(made)).rejects.toMatchObject({ code: 'worker-failed' });
    expect(toFloat64(await runtime.read(well))).toEqual(toFloat64(numbered([8])));
    await expect(runtime.idle()).rejects.toMatchObject({ code: 'worker-failed' });
    await runtime.idle();
    // Written anew, a tensor is good again.
    runtime.operations.copy(good, { into: bad });
    expect(toFloat64(await runtime.read(bad))).toEqual(toFloat64(numbered([8])));
    for (const one of [bad, good, made, well]) runtime.release(one);
    expect(runtime.memory().bytes).toBe(0);
  });

  test('an awaited error is not reported by idle again', async () => {
    const runtime = await create({ threads: 1 });
    const { functions } = programOf(runtime);
    const submission = runtime.submit({ phases: [{ function: functions.trap, tasks: 1, arguments: [] }] }, { awaited: true });
    await expect(submission.done).rejects.toMatchObject({ code: 'worker-failed' });
    await runtime.idle();
  });

  test('a program is compiled once for its key, and stays while it is held', async () => {
    const runtime = await create({ threads: 2 });
    const first = programOf(runtime);
    expect(programOf(runtime)).toBe(first);
    runtime.releaseProgram(first);
    for (let other = 0; other < 300; other += 1) runtime.releaseProgram(programOf(runtime, `other ${other}`));
    expect(programOf(runtime)).toBe(first);
    const target = runtime.tensor([64], 'i32');
    await runtime.submit({ phases: [{ function: first.functions.fill, tasks: 1, arguments: [runtime.addressOf(target), 5] }] }).done;
    expect(target.view()[63]).toBe(5);
    expect(first.text()).toContain('function $fill');
  });

  test('dispose rejects what is pending and refuses what comes later', async () => {
    const runtime = await create({ threads: 2 });
    const { functions } = programOf(runtime);
    const made = runtime.tensor([64 * 20_000], 'i32');
    const long = runtime.submit({ phases: Array.from({ length: 50 }, () => ({ function: functions.fill, tasks: 20_000, arguments: [runtime.addressOf(made), 1] })) });
    const ended = expect(long.done).rejects.toMatchObject({ code: 'disposed' });
    await runtime.dispose();
    await runtime.dispose();
    await ended;
    expect(() => made.view()).toThrow(expect.objectContaining({ code: 'disposed' }));
    expect(() => runtime.tensor([1], 'f32')).toThrow(expect.objectContaining({ code: 'disposed' }));
    await expect(runtime.idle()).rejects.toMatchObject({ code: 'disposed' });
    await expect(runtime.read(made)).rejects.toMatchObject({ code: 'disposed' });
  });
});

describe('a runtime', () => {
  test('says what it runs on', async () => {
    const [one, two] = [await create({ threads: 1 }), await create({ threads: 2 })];
    expect(one.describe().join(' ')).toMatch(/128-bit vectors.*One thread, as asked/);
    expect(two.describe().join(' ')).toMatch(/2 threads, the calling one included/);
    expect([one.machine.shared, two.machine.shared]).toEqual([false, true]);
  });

  test('works on one thread where there is no SharedArrayBuffer, and says so', async () => {
    vi.stubGlobal('SharedArrayBuffer', undefined);
    const runtime = await create({ threads: 4 });
    expect([runtime.threads, runtime.machine.shared, runtime.features.threads, runtime.features.mayBlock]).toEqual([1, false, false, false]);
    expect(runtime.describe().join(' ')).toContain('SharedArrayBuffer is missing (a page must be cross-origin isolated)');
    const made = runtime.operations.matmul(numbered([64, 64]), numbered([64, 64]));
    const want = Array.from({ length: 64 }, (_, k) => k * k * 64).reduce((sum, term) => sum + term);
    // Row 0 is 0 … 63, column 0 is 0, 64, …: exact in float32.
    expect(toFloat64(await runtime.read(made))[0]).toBe(want);
  });

  test.each([[{ threads: 0 }], [{ threads: 1.5 }], [{ vectors: 'broad' as never }]])('refuses %j', async (options) => {
    await expect(createWasmRuntime(options)).rejects.toMatchObject({ code: 'invalid-argument' });
  });

  test('refuses an option that it does not have, naming the nearest (L20)', async () => {
    const misspelt = { thread: 2 };
    await expect(createWasmRuntime(misspelt as WasmRuntimeOptions)).rejects.toMatchObject({ code: 'invalid-argument', hint: expect.stringContaining("Did you mean 'threads'?") as string });
  });

  test('measures its limits: rates above zero, and its memory back', async () => {
    const runtime = await create({ threads: 1 });
    const { perCore } = await measureLimits(runtime);
    for (const rate of [perCore.gigaflopsPerSecond, perCore.readGigabytesPerSecond, perCore.copyGigabytesPerSecond]) expect(rate).toBeGreaterThan(0.1);
    expect(runtime.memory().bytes).toBe(0);
  });
});
