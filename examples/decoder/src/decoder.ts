import { tensor, toFloat64, type Backend, type Tensor } from '@heed/core';
import { addPositions, linear, withTemporaries, type CacheShape, type KeyValueCache } from '@heed/layers';
import { Block, createNorm, type Norm } from './block.ts';
import { RandomWeights } from './random-weights.ts';
import type { DecoderShape } from './shapes.ts';

/** A decoder whose output weight is its embedding, as gpt2's is. Its tensors end with the runtime. */
export class Decoder {
  readonly shape: DecoderShape;
  readonly #backend: Backend;
  readonly #embedding: Tensor;
  readonly #positions: Tensor | null;
  readonly #blocks: readonly Block[];
  readonly #norm: Norm;

  private constructor(backend: Backend, shape: DecoderShape, { embedding, positions, blocks, norm }: { readonly embedding: Tensor; readonly positions: Tensor | null; readonly blocks: readonly Block[]; readonly norm: Norm }) {
    this.shape = shape;
    this.#backend = backend;
    this.#embedding = embedding;
    this.#positions = positions;
    this.#blocks = blocks;
    this.#norm = norm;
  }

  static async create(backend: Backend, shape: DecoderShape, seed: number = 1): Promise<Decoder> {
    const random = new RandomWeights(seed);
    const { runtime } = backend;
    const embedding = runtime.upload(random.table(shape.vocabulary, shape.dim));
    const positions = shape.family === 'gpt2' ? runtime.upload(random.table(shape.context, shape.dim)) : null;
    const blocks: Block[] = [];
    for (let layer = 0; layer < shape.layers; layer++) blocks.push(await Block.create(backend, shape, random));
    return new Decoder(backend, shape, { embedding, positions, blocks, norm: createNorm(backend, shape.family, shape.dim, random) });
  }

  /** What the cache of each layer is made with. */
  get cacheShapes(): readonly CacheShape[] {
    return this.#blocks.map(({ cacheShape }) => cacheShape);
  }

  /**
   * Logits of the token that follows the last one.
   *
   * @param tokens of one sequence; those after what the caches hold
   * @param caches one for each layer; without them the tokens are all there is
   */
  async next(tokens: readonly number[], caches: readonly KeyValueCache[] = []): Promise<Float64Array> {
    const { runtime } = this.#backend;
    const { dim } = this.shape;
    return withTemporaries(runtime, async (temporaries) => {
      const rows = temporaries.keep(runtime.operations.gather(this.#embedding, tensor(Int32Array.from(tokens), [tokens.length])));
      let x = runtime.view(rows, [1, tokens.length, dim]);
      if (this.#positions !== null) x = temporaries.keep(await addPositions(runtime, x, this.#positions, { position: caches[0]?.nextPositions ?? 0 }));
      for (const [layer, block] of this.#blocks.entries()) x = temporaries.keep(await block.forward(temporaries, x, caches[layer]));
      const last = runtime.view(x, [1, 1, dim], [dim, dim, 1], (tokens.length - 1) * dim);
      const logits = temporaries.keep(linear(temporaries, temporaries.keep(this.#norm(temporaries, last)), { weight: this.#embedding }));
      return toFloat64(await runtime.read(logits));
    });
  }

  /** The likeliest tokens, one after another. */
  async generate(prompt: readonly number[], count: number, caches: readonly KeyValueCache[]): Promise<readonly number[]> {
    const made: number[] = [];
    let logits = await this.next(prompt, caches);
    for (let step = 0; step < count; step++) {
      const token = likeliest(logits);
      made.push(token);
      if (step + 1 < count) logits = caches.length === 0 ? await this.next([...prompt, ...made]) : await this.next([token], caches);
    }
    return made;
  }

  async dispose(): Promise<void> {
    for (const block of this.#blocks) await block.dispose();
  }
}

/** Index of the greatest number. */
export function likeliest(logits: Float64Array): number {
  return logits.reduce((best, value, token) => (value > (logits[best] ?? -Infinity) ? token : best), 0);
}
