import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { describe, expect, test, vi } from 'vitest';
import { measureWideVectors, probe } from '../src/probe.ts';

describe('features', () => {
  test('are found by trying: Node 24 has them all', () => {
    expect(probe()).toMatchObject({ simd: true, relaxedSimd: true, threads: true, mayBlock: true, waitAsync: true, memory64: true });
  });

  test('an engine that takes no module has none', () => {
    vi.spyOn(WebAssembly, 'validate').mockReturnValue(false);
    expect(probe()).toMatchObject({ simd: false, relaxedSimd: false, threads: false, mayBlock: false, memory64: false });
  });

  test('a page that may not share memory has no threads', () => {
    vi.spyOn(WebAssembly, 'Memory').mockImplementation(function refuse() {
      throw new TypeError('shared memory is not allowed');
    });
    expect(probe()).toMatchObject({ simd: true, threads: false, mayBlock: false });
  });
});

describe('wide vectors', () => {
  test('without the flag nothing is packed, with the same sums', () => {
    for (const fused of [true, false]) expect(measureWideVectors('Not asked.', fused)).toMatchObject({ packed: false });
  });

  // The flag changes the whole process, so the runtime that asks for it has one of its own.
  const run = async (vectors: string): Promise<{ readonly wide: { readonly reason: string; readonly ratio: number }; readonly bits: string }> => {
    const source = JSON.stringify(new URL('../src/index.ts', import.meta.url).href);
    const script = `
      import { createHash } from 'node:crypto';
      import { createWasmRuntime } from ${source};
      import { tensor } from '@heed/core';
      const runtime = await createWasmRuntime({ vectors: '${vectors}', threads: 2 });
      const numbers = (shape, step) => tensor(Float32Array.from({ length: shape[0] * shape[1] }, (_, index) => Math.sin(index * step)), shape);
      const hash = createHash('sha256');
      // Often enough for the optimising compiler to have its turn.
      for (let round = 0; round < 60; round += 1) {
        const made = runtime.operations.matmul(numbers([37, 300], 0.7), numbers([300, 50], 0.3));
        if (round === 59) hash.update((await runtime.read(made)).view());
        runtime.release(made);
      }
      console.log(JSON.stringify({ wide: runtime.wide, bits: hash.digest('hex') }));
      await runtime.dispose();
    `;
    const { stdout } = await promisify(execFile)(process.execPath, [...process.execArgv, '--input-type=module', '--eval', script], { cwd: import.meta.dirname, timeout: 20_000 });
    return JSON.parse(stdout) as Awaited<ReturnType<typeof run>>;
  };

  test('give the same bits as 128-bit vectors, and say whether packing happened', async () => {
    const [portable, wide] = [await run('portable'), await run('wide')];
    expect(wide.bits).toBe(portable.bits);
    expect(portable.wide.reason).toContain('Not asked for');
    expect(wide.wide.reason).toMatch(/-wasm-revectorize was set.* (packing happens|no packing)\.$/);
  });
});
