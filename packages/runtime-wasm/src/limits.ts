/** What this machine reaches with emitted code: multiply-adds in registers, and memory read and copied. Shares in reports refer to these. */
import { constantF32x4, instructions, type Local } from './emit/instruction.ts';
import { clearTile, declareTile, storeTile, tileProduct, type TileShape } from './emit/matmul.ts';
import { ModuleBuilder } from './emit/module.ts';
import { kernelParameters, readWords } from './operations/words.ts';
import type { WasmRuntime } from './runtime.ts';
import type { KernelFunction } from './threads/job.ts';

const { f32x4, i32, memory, v128 } = instructions;

/** Best rates seen. */
export interface Limit {
  /** What was measured, for people. */
  readonly description: string;
  readonly threads: number;
  /** One multiply and one add are two. */
  readonly gigaflopsPerSecond: number;
  readonly readGigabytesPerSecond: number;
  /** Bytes copied, each counted once. */
  readonly copyGigabytesPerSecond: number;
  /** The register tile that reached the peak. */
  readonly tile: TileShape;
}

export interface WasmLimits {
  /** The calling thread alone. */
  readonly perCore: Limit;
  readonly allCores: Limit;
}

const shapes: readonly TileShape[] = [
  { rows: 4, columns: 8 },
  { rows: 6, columns: 8 },
  { rows: 4, columns: 16 },
  { rows: 6, columns: 16 },
];

/** Panels of this depth stay in the first cache; rounds make a task of about 0.3 ms, and tasks an attempt that a coarse clock can tell. */
const tileDepth = 128;
const tileRounds = 256;

/** Larger than the caches of most machines, twice. */
const streamBytes = 64 * 2 ** 20;
/** Bytes of one task. */
const chunkBytes = 2 ** 20;

/** A rate stands when it was not beaten this often; other programs may take the cores for a while. */
const unbeatenAttempts = 8;
const mostAttempts = 24;

/**
 * Measures in one to three seconds; the runtime should be idle and its workers started (`ready`). Takes 128 MiB of its memory meanwhile, which counts in its peak.
 * @throws AttentionError `out-of-memory`
 */
export async function measureLimits(runtime: WasmRuntime): Promise<WasmLimits> {
  await runtime.ready();
  const names = [...shapes.map(tileName), 'read', 'copy'];
  const program = runtime.program('limits', names, () => limitsModule(runtime.machine.shared, runtime.machine.fused));
  const [from, to] = [runtime.heap.allocate(streamBytes), runtime.heap.allocate(streamBytes)];
  try {
    runtime.heap.f32(from, streamBytes / 4).fill(1);
    runtime.heap.u8(to, streamBytes).fill(0);
    const measure = async (threads: number): Promise<Limit> => {
      const one = (name: string): KernelFunction => {
        const found = program.functions[name];
        if (found === undefined) throw new RangeError(`no limit is called ${name}`);
        return found;
      };
      const run = async (name: string, tasks: number, scratchBytes: number): Promise<number> => best(runtime, one(name), threads, { tasks, words: [from, to], scratchBytes });
      const peaks = [];
      for (const tile of shapes) {
        const tasks = 24 * threads;
        const seconds = await run(tileName(tile), tasks, tileDepth * (tile.rows + tile.columns) * 4 + 4096);
        peaks.push({ tile, rate: (2 * tile.rows * tile.columns * tileDepth * tileRounds * tasks) / seconds / 1e9 });
      }
      const peak = peaks.reduce((most, next) => (next.rate > most.rate ? next : most));
      const streamed = streamBytes / 1e9;
      return {
        description: `WebAssembly, ${threads} ${threads === 1 ? 'thread' : 'threads'}, ${runtime.machine.wide ? '256-bit' : '128-bit'} ${runtime.machine.fused ? 'fused ' : ''}multiply-add`,
        threads,
        gigaflopsPerSecond: peak.rate,
        readGigabytesPerSecond: streamed / (await run('read', streamBytes / chunkBytes, 64)),
        copyGigabytesPerSecond: streamed / (await run('copy', streamBytes / chunkBytes, 0)),
        tile: peak.tile,
      };
    };
    const perCore = await measure(1);
    return { perCore, allCores: runtime.threads === 1 ? perCore : await measure(runtime.threads) };
  } finally {
    runtime.releaseBlock(from);
    runtime.releaseBlock(to);
    runtime.releaseProgram(program);
  }
}

interface Work {
  readonly tasks: number;
  readonly words: readonly number[];
  readonly scratchBytes: number;
}

/** Seconds of the fastest attempt. The first ones let the optimising compiler finish. */
async function best(runtime: WasmRuntime, kernel: KernelFunction, threads: number, { tasks, words, scratchBytes }: Work): Promise<number> {
  let seconds = Infinity;
  let unbeaten = 0;
  for (let attempt = 0; attempt < mostAttempts && unbeaten < unbeatenAttempts; attempt += 1) {
    const phases = [{ function: kernel, tasks, arguments: words, scratchBytes }];
    const start = performance.now();
    // A job of no time runs on the calling thread alone.
    const submission = runtime.submit({ phases, ...(threads === 1 ? { microseconds: 0 } : {}) }, { participate: true, awaited: true });
    await submission.done;
    const taken = (performance.now() - start) / 1000;
    // What is faster by less than 1 % counts as the same.
    unbeaten = taken < 0.99 * seconds ? 0 : unbeaten + 1;
    seconds = Math.min(seconds, taken);
  }
  return seconds;
}

const tileName = ({ rows, columns }: TileShape): string => `tile${rows}x${columns}`;

function limitsModule(shared: boolean, fused: boolean): ModuleBuilder {
  const builder = new ModuleBuilder('limits');
  builder.importMemory('env', 'memory', { shared });
  for (const shape of shapes) {
    builder.function(tileName(shape), { parameters: kernelParameters, export: true }, (f, { scratch }) => {
      const [left, right, round] = [f.local('left', 'i32'), f.local('right', 'i32'), f.local('round', 'i32')];
      const sums = declareTile(f, 'sum', shape);
      clearTile(f, sums);
      f.for(round, { to: tileRounds, atLeastOnce: true }, () => {
        f.set(left, i32.add(scratch, 2048));
        f.set(right, i32.add(scratch, 2048 + shape.rows * tileDepth * 4));
        tileProduct(f, { sums, left, right, depth: tileDepth, fused });
      });
      storeTile(f, sums, scratch, shape.columns * 4);
    });
  }
  builder.function('read', { parameters: kernelParameters, export: true }, (f, { task, words, scratch }) => {
    const at = f.let('at', i32.add(i32.load(words), i32.mul(task, chunkBytes)));
    const end = f.let('end', i32.add(at, chunkBytes));
    // Eight sums, so that additions do not wait for one another.
    const sums = f.localArray('sum', 'v128', 8);
    for (const sum of sums) f.set(sum, constantF32x4(0));
    f.loop('lines', (again) => {
      sums.forEach((sum, index) => {
        f.set(sum, f32x4.add(sum, v128.load(at, index * 16)));
      });
      f.set(at, i32.add(at, 128));
      f.brIf(again, i32.lt_u(at, end));
    });
    sums.forEach((sum, index) => {
      f.do(v128.store(scratch, sum, (index % 4) * 16));
    });
  });
  builder.function('copy', { parameters: kernelParameters, export: true }, (f, { task, words }) => {
    const named: Readonly<Record<'from' | 'to', Local<'i32'>>> = readWords(f, words, ['from', 'to']);
    const offset = f.let('offset', i32.mul(task, chunkBytes));
    f.do(memory.copy(i32.add(named.to, offset), i32.add(named.from, offset), chunkBytes));
  });
  return builder;
}
