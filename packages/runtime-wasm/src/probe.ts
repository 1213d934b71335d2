/** What this engine can do. Every answer is tried, none is read from a version. */
import { constantF32x4, instructions, type Value } from './emit/instruction.ts';
import { clearTile, declareTile, storeTile, tileProduct } from './emit/matmul.ts';
import { ModuleBuilder } from './emit/module.ts';
import { builtinModule, hardwareThreads } from './host.ts';

export interface Features {
  readonly simd: boolean;
  /** Fused multiply-add and the other relaxed instructions. */
  readonly relaxedSimd: boolean;
  /** Shared memory and atomics: SharedArrayBuffer is there, so a page is cross-origin isolated. */
  readonly threads: boolean;
  /** This thread may sleep in Atomics.wait; false on a page's main thread. */
  readonly mayBlock: boolean;
  readonly waitAsync: boolean;
  readonly memory64: boolean;
  readonly hardwareThreads: number;
}

const { f32x4, i32, v128 } = instructions;

export function probe(): Features {
  const threads = hasThreads();
  return {
    simd: accepts(constantF32x4(1)),
    relaxedSimd: accepts(f32x4.relaxed_madd(constantF32x4(1), constantF32x4(2), constantF32x4(3))),
    threads,
    mayBlock: threads && mayBlock(),
    waitAsync: threads && 'waitAsync' in Atomics,
    memory64: hasMemory64(),
    hardwareThreads: hardwareThreads(),
  };
}

/** True when the engine takes a module that computes the value. */
function accepts(value: Value<'v128'>): boolean {
  const builder = new ModuleBuilder('probe');
  builder.function('probe', { parameters: {}, results: ['i32'] }, (f) => {
    f.return(v128.any_true(value));
  });
  return WebAssembly.validate(builder.bytes());
}

function hasThreads(): boolean {
  if (typeof SharedArrayBuffer === 'undefined') return false;
  const builder = new ModuleBuilder('probe');
  builder.importMemory('env', 'memory', { shared: true, maximum: 1 });
  builder.function('probe', { parameters: {}, results: ['i32'] }, (f) => {
    f.return(i32['atomic.load'](0));
  });
  try {
    // A page that is not isolated may have the constructor and still be refused here.
    const { buffer } = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
    return buffer instanceof SharedArrayBuffer && WebAssembly.validate(builder.bytes());
  } catch {
    return false;
  }
}

function mayBlock(): boolean {
  try {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 0);
    return true;
  } catch {
    return false;
  }
}

/** A module with one memory of no pages whose addresses are 64 bits wide (limits flag 4). */
function hasMemory64(): boolean {
  return WebAssembly.validate(new Uint8Array([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 5, 3, 1, 4, 0]));
}

/** Whether pairs of 128-bit operations become 256-bit ones, and how that was found. */
export interface WideVectors {
  readonly packed: boolean;
  /** Speed of a tile that can be packed over the same tile stored so that it cannot. About 1 without packing, 2 or more with it. */
  readonly ratio: number;
  /** What was done and seen, for `explain()`. */
  readonly reason: string;
}

/** The flag of V8's packing pass by its name of today, and the name it had up to V8 15.0: Node 24 and 26, Deno 2.9. An unknown name makes V8 print an error. */
const packingFlag = '--wasm-revectorize';
const earlierPackingFlag = '--experimental-wasm-revectorize';

/**
 * Asks V8 for its packing pass, where this runtime can ask (Node): for the whole process, for modules compiled from now on.
 * @returns what was done
 */
export function requestWideVectors(): string {
  const v8 = builtinModule('v8') as { setFlagsFromString?(flag: string): void } | undefined;
  if (v8?.setFlagsFromString === undefined) {
    return `This runtime cannot set V8 flags while it runs; V8 packs when it was started with ${packingFlag} (${earlierPackingFlag} up to V8 15.0).`;
  }
  const { process } = globalThis as { readonly process?: { readonly versions?: { readonly v8?: string } } };
  const [major = 0, minor = 0] = (process?.versions?.v8 ?? '').split('.').map(Number);
  const flag = major < 15 || (major === 15 && minor === 0) ? earlierPackingFlag : packingFlag;
  v8.setFlagsFromString(flag);
  return `The flag ${flag} was set, as far as this runtime sets flags.`;
}

/** Tile, depth and rounds of the packing test: a call takes 10 to 30 µs. */
const packingTile = { rows: 4, columns: 16 } as const;
const packingDepth = 128;
const packingRounds = 50;

const packingMilliseconds = 40;

/** A page's clock ticks every 0.1 ms, so calls are measured together. */
const sampleMilliseconds = 1;

/** Below it a difference is noise. */
const packingThreshold = 1.5;

/**
 * Measures whether packing happens. The same tile is built twice: in one, neighbouring accumulators are stored side by side, where the
 * pass begins; in the other they are stored apart, so that it finds nothing. The sums are compared with a known answer.
 * Takes 40 ms.
 * @param request what `requestWideVectors` said
 * @param fused whether the engine has relaxed SIMD
 * @throws RangeError when a sum is wrong: the pass must not be used
 */
export function measureWideVectors(request: string, fused: boolean): WideVectors {
  const memory = new WebAssembly.Memory({ initial: 1 });
  const module = new WebAssembly.Module(packingModule(fused));
  const { beside, apart } = new WebAssembly.Instance(module, { env: { memory } }).exports as Record<string, () => void>;
  if (beside === undefined || apart === undefined) throw new RangeError('The packing test has no entry.');
  // left[d][r] = r + 1, right[d][c] = c + 1: every sum is depth · (r + 1) · (c + 1), exact in float32.
  const left = new Float32Array(memory.buffer, leftAddress, packingDepth * packingTile.rows);
  const right = new Float32Array(memory.buffer, rightAddress, packingDepth * packingTile.columns);
  left.forEach((_, index) => (left[index] = (index % packingTile.rows) + 1));
  right.forEach((_, index) => (right[index] = (index % packingTile.columns) + 1));
  let best: readonly [number, number] = [Infinity, Infinity];
  // The optimising compiler works in the background and must have been given the time for both.
  for (const start = performance.now(); performance.now() - start < packingMilliseconds; ) {
    best = [Math.min(best[0], milliseconds(beside)), Math.min(best[1], milliseconds(apart))];
  }
  checkSums(memory);
  const ratio = best[1] / best[0];
  const packed = ratio > packingThreshold;
  const seen = `A tile that can be packed ran ${ratio.toFixed(2)} times as fast as one that cannot`;
  return { packed, ratio, reason: `${request} ${seen}: ${packed ? 'packing happens' : 'no packing'}.` };
}

const outAddress = 1024;
const leftAddress = 8192;
const rightAddress = 16_384;

function packingModule(fused: boolean): Uint8Array<ArrayBuffer> {
  const builder = new ModuleBuilder('packing');
  builder.importMemory('env', 'memory', { shared: false });
  for (const name of ['beside', 'apart'] as const) {
    builder.function(name, { parameters: {}, export: true }, (f) => {
      const [left, right, round] = [f.local('left', 'i32'), f.local('right', 'i32'), f.local('round', 'i32')];
      const sums = declareTile(f, 'sum', packingTile);
      f.for(round, { to: packingRounds, atLeastOnce: true }, () => {
        clearTile(f, sums);
        f.set(left, leftAddress);
        f.set(right, rightAddress);
        tileProduct(f, { sums, left, right, depth: packingDepth, fused });
      });
      const out = f.let('out', i32.add(outAddress, 0));
      if (name === 'beside') storeTile(f, sums, out, packingTile.columns * 4);
      else {
        sums.forEach((row, rowIndex) => {
          row.forEach((sum, index) => {
            f.do(v128.store(out, sum, 1024 + rowIndex * packingTile.columns * 8 + index * 32));
          });
        });
      }
    });
  }
  return builder.bytes();
}

/** Time of one call. */
function milliseconds(run: () => void): number {
  const start = performance.now();
  for (let calls = 1; ; calls += 1) {
    run();
    const passed = performance.now() - start;
    if (passed >= sampleMilliseconds) return passed / calls;
  }
}

function checkSums(memory: WebAssembly.Memory): void {
  const beside = new Float32Array(memory.buffer, outAddress, packingTile.rows * packingTile.columns);
  const apart = new Float32Array(memory.buffer, outAddress + 1024);
  beside.forEach((sum, index) => {
    const [row, column] = [Math.floor(index / packingTile.columns), index % packingTile.columns];
    const want = packingDepth * (row + 1) * (column + 1);
    const other = apart[row * packingTile.columns * 2 + Math.floor(column / 4) * 8 + (column % 4)] ?? NaN;
    if (sum !== want || other !== want) {
      throw new RangeError(`With packing, row ${row}, column ${column} gave ${sum} and ${other}, expected ${want}.`);
    }
  });
}
