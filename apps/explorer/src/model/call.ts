import { drawTables, RandomSource } from '@heed/conformance';
import { isAttentionError, transformedWidth, type AttentionKernel, type AttentionVariant, type Backend, type HostTensor, type ObservedStage, type Tensor } from '@heed/core';
import type { HeadTables } from './heads.ts';
import type { Described } from './variant.ts';

/** Numbers of a call that is over, [heads, length, …] each, dense. */
export interface Result {
  readonly heads: number;
  readonly queryLength: number;
  readonly keyLength: number;
  readonly valueDim: number;
  /** [heads, queryLength, keyLength] */
  readonly stages: Readonly<Record<ObservedStage, Float32Array>>;
  /** [heads, queryLength, valueDim] */
  readonly output: Float32Array;
  readonly milliseconds: number;
}

const observed: readonly ObservedStage[] = ['scores', 'modified', 'masked', 'weights'];

/** Kernels by what they are compiled for, so that another value of a uniform compiles nothing. */
export class Caller {
  readonly #kernels = new WeakMap<Backend, Map<string, Promise<AttentionKernel>>>();

  /** Runs a variant over heads and looks at every stage. @throws AttentionError */
  async run(backend: Backend, { variant, tables: fill }: Described, { query, key, value }: Omit<HeadTables, 'names'>, uniforms: Readonly<Record<string, number>>): Promise<Result> {
    const [, heads = 0, queryLength = 0, queryDim = 0] = query.shape;
    const [keyLength = 0, keyDim = 0] = key.shape.slice(2);
    const valueDim = value.shape[3] ?? 0;
    const known = this.#kernels.get(backend) ?? new Map<string, Promise<AttentionKernel>>();
    this.#kernels.set(backend, known);
    const structure = `${variant.structure} ${queryDim} ${keyDim} ${valueDim}`;
    const preparing = known.get(structure) ?? backend.prepare({ variant, queryDim, keyDim, valueDim, observe: { stages: observed } });
    known.set(structure, preparing);
    preparing.catch(() => known.delete(structure));
    const kernel = await preparing;
    const shape = { batch: 1, heads, keyHeads: heads, queryLength, keyLength, queryDim, keyDim, valueDim };
    const scoreDim = variant.scoring.queryTransforms.reduce((width, transform) => transformedWidth(transform, width), queryDim);
    // Weights of a variant that has some are random, and the same every time.
    const tables = drawTables(new RandomSource(7), variant, shape, { scoreDim, ...fill(shape) });
    const started = performance.now();
    // Variants of one structure share a kernel, whose defaults are those of the first: all values are said.
    const outputs = await kernel.run({ query, key, value, tables, uniforms: { ...defaultsOf(variant, scoreDim), ...uniforms }, queryOffset: 'start' });
    const milliseconds = performance.now() - started;
    const numbers = async (stage: ObservedStage): Promise<Float32Array> => numbersOf(outputs.observed?.[stage]);
    const stages = { scores: await numbers('scores'), modified: await numbers('modified'), masked: await numbers('masked'), weights: await numbers('weights') };
    return { heads, queryLength, keyLength, valueDim, stages, output: await numbersOf(outputs.output), milliseconds };
  }
}

/** Every uniform at its default. */
export function defaultsOf({ uniforms }: AttentionVariant, scoreDim: number): Readonly<Record<string, number>> {
  return Object.fromEntries(Object.entries(uniforms).map(([name, { value }]) => [name, value === 'inverseSqrtDim' ? 1 / Math.sqrt(scoreDim) : value]));
}

async function numbersOf(source: Tensor | undefined): Promise<Float32Array> {
  if (source === undefined) return new Float32Array(0);
  const host = source.runtime === null ? (source as HostTensor) : await source.runtime.read(source);
  return Float32Array.from(host.view());
}

/** Whether another attempt with a new backend may go better. */
export function isLost(error: unknown): boolean {
  return isAttentionError(error, 'device-lost') || isAttentionError(error, 'worker-failed') || isAttentionError(error, 'disposed');
}
