import { AttentionError, isHostTensor, type Runtime, type Tensor } from '@heed/core';

/** What a weight should look like: sizes, or names of sizes that are free. */
export type ExpectedShape = readonly (number | string)[];

/** The weights of a layer where it computes: uploaded once where they were of the host, used as they are where they live there already. */
export class Parameters {
  readonly runtime: Runtime;
  readonly #owned: Tensor[] = [];

  constructor(runtime: Runtime) {
    this.runtime = runtime;
  }

  /** @throws AttentionError `foreign-tensor` for a tensor of another runtime */
  place(name: string, weight: Tensor): Tensor {
    if (weight.runtime === this.runtime) return weight;
    if (weight.runtime !== null || !isHostTensor(weight)) throw new AttentionError('foreign-tensor', `${name} lives on another runtime.`, 'Read it there, or upload it to the backend’s runtime.');
    return this.own(this.runtime.upload(weight));
  }

  /** Places all of a record, and leaves out what is undefined. */
  placeAll<Weights extends { readonly [Name in keyof Weights]?: Tensor | undefined }>(weights: Weights): Weights {
    const entries = Object.entries<Tensor | undefined>(weights);
    return Object.fromEntries(entries.flatMap(([name, weight]) => (weight === undefined ? [] : [[name, this.place(name, weight)]]))) as Weights;
  }

  /** A tensor that is released with these. */
  own<T extends Tensor>(tensor: T): T {
    this.#owned.push(tensor);
    return tensor;
  }

  release(): void {
    for (const tensor of this.#owned.splice(0)) this.runtime.release(tensor);
  }
}

/**
 * Checks every weight of a layer and says at once what is wrong with all of them.
 * @throws AttentionError `invalid-shape` naming each weight with the shape found and the one expected
 */
export function checkWeights(layer: string, weights: Readonly<Record<string, readonly [given: Tensor | undefined, expected: ExpectedShape]>>): void {
  const problems: string[] = [];
  for (const [name, [given, expected]] of Object.entries(weights)) {
    if (given === undefined) continue;
    const { shape } = given;
    const fits = shape.length === expected.length && expected.every((size, axis) => typeof size === 'string' || size === shape[axis]);
    if (!fits) problems.push(`${name} is [${shape.join(', ')}], expected [${expected.join(', ')}]`);
  }
  if (problems.length > 0) throw new AttentionError('invalid-shape', `Weights of ${layer} do not fit: ${problems.join('; ')}.`, 'Linear weights are [outputs, inputs].');
}

/** @throws AttentionError `invalid-argument` unless it is an integer of `least` or more */
export function checkCount(what: string, value: unknown, least: number): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < least) throw new AttentionError('invalid-argument', `${what} is ${String(value)}.`, `Expected an integer of ${least} or more.`);
  return value;
}
