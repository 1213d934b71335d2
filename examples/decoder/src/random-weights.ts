import { tensor, type HostTensor } from '@heed/core';

/** Normal numbers from a seed, for models that say nothing. */
export class RandomWeights {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** A linear weight [outputs, inputs] that keeps the size of what it is given. */
  linear(outputs: number, inputs: number): HostTensor {
    return this.#normal([outputs, inputs], 1 / Math.sqrt(inputs));
  }

  table(rows: number, dim: number): HostTensor {
    return this.#normal([rows, dim], 1);
  }

  /** Near 1, as gains are. */
  gain(dim: number): HostTensor {
    return this.#normal([dim], 0.1, 1);
  }

  bias(dim: number): HostTensor {
    return this.#normal([dim], 0.1);
  }

  #normal(shape: readonly number[], deviation: number, mean: number = 0): HostTensor {
    const numbers = new Float32Array(shape.reduce((product, size) => product * size, 1));
    for (let index = 0; index < numbers.length; index++) numbers[index] = mean + deviation * Math.sqrt(-2 * Math.log(this.#uniform())) * Math.cos(2 * Math.PI * this.#uniform());
    return tensor(numbers, shape);
  }

  /** In (0, 1): mulberry32. */
  #uniform(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 2 ** 32;
  }
}
