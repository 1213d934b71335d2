/**
 * What this machine can do at most, measured at the start of a run. Every share of a limit in a report refers to one of these.
 *
 * A competitor names the limit that binds it. The one here binds plain JavaScript on one thread; a runtime with its own code brings its own.
 */

import type { Competitor } from './competitor.ts';

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
}

/** Limits by the name that competitors refer to. */
export type Limits = Readonly<Record<string, Limit>>;

/** The limit of plain JavaScript. */
export const javascriptLimit = 'javascript';

/** Limits of emitted WebAssembly: one core and all of them, with portable vectors and with wide ones. */
export const wasmLimits = {
  portable: { perCore: 'wasm, one core', allCores: 'wasm' },
  wide: { perCore: 'wasm wide, one core', allCores: 'wasm wide' },
} as const;

/** Limits of the GPU's shaders, by the type that they compute in. */
export const webgpuLimits = { f32: 'webgpu', f16: 'webgpu f16' } as const;

/** Measures every limit of these competitors, one after the other. */
export async function measureLimits(competitors: readonly Pick<Competitor, 'limit' | 'measureLimits'>[]): Promise<Limits> {
  const limits: Record<string, Limit> = {};
  if (competitors.some(({ limit }) => limit === javascriptLimit)) limits[javascriptLimit] = measureJavascriptLimit();
  for (const competitor of competitors) Object.assign(limits, await competitor.measureLimits?.());
  return limits;
}

/** What one thread of JavaScript reaches here: multiply-add chains in registers, and streams through an array larger than the caches. */
export function measureJavascriptLimit(): Limit {
  const now = (): number => performance.now();
  const steps = 2_000_000;
  const stream = new Float64Array(8 * 1024 * 1024).fill(1);
  const copy = new Float64Array(stream.length);
  return {
    description: 'JavaScript, one thread, float64 multiply-add',
    threads: 1,
    gigaflopsPerSecond: (steps * flopsPerStep) / bestNanoseconds(() => multiplyAdd(steps), now),
    readGigabytesPerSecond: stream.byteLength / bestNanoseconds(() => sum(stream), now),
    copyGigabytesPerSecond: stream.byteLength / bestNanoseconds(() => { copy.set(stream); return copy[0] ?? 0; }, now),
  };
}

const attempts = 7;

function bestNanoseconds(work: () => number, now: () => number): number {
  let best = Infinity;
  for (let attempt = 0; attempt < attempts; attempt++) {
    const start = now();
    const result = work();
    best = Math.min(best, (now() - start) * 1e6);
    // Reading the result keeps the work from being optimised away.
    if (Number.isNaN(result)) throw new RangeError('A limit loop produced NaN.');
  }
  return best;
}

const flopsPerStep = 16;

// Eight independent chains hide the latency of the two operations.
function multiplyAdd(steps: number): number {
  const factor = 0.999999;
  const term = 1e-6;
  let [a, b, c, d, e, f, g, h] = [1, 2, 3, 4, 5, 6, 7, 8];
  for (let step = 0; step < steps; step++) {
    a = a * factor + term;
    b = b * factor + term;
    c = c * factor + term;
    d = d * factor + term;
    e = e * factor + term;
    f = f * factor + term;
    g = g * factor + term;
    h = h * factor + term;
  }
  return a + b + c + d + e + f + g + h;
}

function sum(stream: Float64Array): number {
  let [a, b, c, d] = [0, 0, 0, 0];
  for (let index = 0; index + 3 < stream.length; index += 4) {
    a += stream[index] ?? 0;
    b += stream[index + 1] ?? 0;
    c += stream[index + 2] ?? 0;
    d += stream[index + 3] ?? 0;
  }
  return a + b + c + d;
}

/** The least time, in milliseconds, in which this much work could be done under a limit: the slower of computing and reading. */
export function leastMilliseconds(limit: Limit, flops: number, bytes: number): number {
  return Math.max(flops / limit.gigaflopsPerSecond, bytes / limit.readGigabytesPerSecond) / 1e6;
}
