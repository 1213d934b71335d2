import type { FunctionBuilder, Local, Value } from '@heed/runtime-wasm';
import { constantF32x4, exp, instructions, multiplyAdd, multiplySubtract, sumOfLanes } from '@heed/runtime-wasm';
import { fillVectors, forVectors, type Emission, type Vector } from '../emit/context.ts';
import type { TokenAlgebra } from '../emit/token-form.ts';
import { tapeVectors } from './scratch.ts';

const { f32, f32x4, i32, v128 } = instructions;

/** A vector [W] and its gradient, by address. */
export interface TapeVector {
  readonly value: Local<'i32'>;
  readonly gradient: Local<'i32'>;
}

export interface TapeNumber {
  readonly value: Local<'f32'>;
  readonly gradient: Local<'f32'>;
}

/** What a token's form begins with. */
export interface TapeInputs {
  readonly query: TapeVector;
  readonly key: TapeVector;
  readonly removalKey: TapeVector | null;
  readonly removalWeight: TapeVector | null;
  /** Log decays by channel; or the address of the one log decay, and the gradient that it gets. */
  readonly logDecays: TapeVector | null;
  readonly logDecay: TapeNumber | null;
  readonly strength: TapeNumber | null;
}

/** Emits the form of a token, and remembers how to go back through it: reverse accumulation, one entry for each operation. */
export class Tape implements TokenAlgebra<TapeVector, TapeNumber> {
  readonly #f: FunctionBuilder;
  readonly #emission: Emission;
  readonly #inputs: TapeInputs;
  readonly #area: Local<'i32'>;
  readonly #back: (() => void)[] = [];
  #used = 0;

  /** @param area room for {@link tapeVectors} vectors */
  constructor(f: FunctionBuilder, emission: Emission, inputs: TapeInputs, area: Local<'i32'>) {
    this.#f = f;
    this.#emission = emission;
    this.#inputs = inputs;
    this.#area = area;
  }

  /** Emits the way back: what the gradients of the form's parts mean for the inputs. */
  retreat(): void {
    for (const step of this.#back.toReversed()) step();
  }

  query(): TapeVector {
    return this.#inputs.query;
  }

  key(): TapeVector {
    return this.#inputs.key;
  }

  decay(): TapeVector {
    const f = this.#f;
    const lanes = { f, fused: this.#emission.plan.machine.fused };
    const { logDecays, logDecay } = this.#inputs;
    const made = this.#vector();
    if (logDecays !== null) {
      this.#each((bytes) => {
        f.do(v128.store(i32.add(made.value, bytes), exp(lanes, this.#at(logDecays.value, bytes))));
      });
      this.#back.push(() => {
        this.#accumulate(logDecays, (bytes) => f32x4.mul(this.#at(made.gradient, bytes), this.#at(made.value, bytes)));
      });
    } else if (logDecay !== null) {
      const factor = f.let('factor', exp(lanes, f32x4.splat(logDecay.value)));
      fillVectors(f, made.value, this.#width, factor);
      this.#back.push(() => {
        f.set(logDecay.gradient, f32.add(logDecay.gradient, this.#dot(made.gradient, made.value)));
      });
    }
    return made;
  }

  recall(step: { readonly by: 'key' | 'removalKey' }): TapeVector {
    return step.by === 'key' ? this.#inputs.key : present(this.#inputs.removalKey);
  }

  remove(step: { readonly along: 'key' | 'removalKey'; readonly strength: 'writeStrength' | 'removalWeight' | null }): TapeVector {
    const along = step.along === 'key' ? this.#inputs.key : present(this.#inputs.removalKey);
    if (step.strength === null) return along;
    return step.strength === 'writeStrength' ? this.scaled(along, this.strength()) : this.times(along, present(this.#inputs.removalWeight));
  }

  strength(): TapeNumber {
    return present(this.#inputs.strength);
  }

  times(x: TapeVector, y: TapeVector): TapeVector {
    const made = this.#made((bytes) => f32x4.mul(this.#at(x.value, bytes), this.#at(y.value, bytes)));
    this.#back.push(() => {
      this.#accumulate(x, (bytes) => f32x4.mul(this.#at(made.gradient, bytes), this.#at(y.value, bytes)));
      this.#accumulate(y, (bytes) => f32x4.mul(this.#at(made.gradient, bytes), this.#at(x.value, bytes)));
    });
    return made;
  }

  scaled(x: TapeVector, factor: TapeNumber): TapeVector {
    const f = this.#f;
    const factors = f.let('factors', f32x4.splat(factor.value));
    const made = this.#made((bytes) => f32x4.mul(this.#at(x.value, bytes), factors));
    this.#back.push(() => {
      this.#accumulate(x, (bytes) => f32x4.mul(this.#at(made.gradient, bytes), factors));
      f.set(factor.gradient, f32.add(factor.gradient, this.#dot(made.gradient, x.value)));
    });
    return made;
  }

  dot(x: TapeVector, y: TapeVector): TapeNumber {
    const f = this.#f;
    const made = this.number('product', this.#dot(x.value, y.value));
    this.#back.push(() => {
      const by = f.let('by', f32x4.splat(made.gradient));
      this.#accumulate(x, (bytes) => f32x4.mul(by, this.#at(y.value, bytes)));
      this.#accumulate(y, (bytes) => f32x4.mul(by, this.#at(x.value, bytes)));
    });
    return made;
  }

  without(x: TapeVector, factor: TapeNumber, y: TapeVector): TapeVector {
    const f = this.#f;
    const factors = f.let('factors', f32x4.splat(factor.value));
    const made = this.#made((bytes) => multiplySubtract(this.#emission.plan.machine, factors, this.#at(y.value, bytes), this.#at(x.value, bytes)));
    this.#back.push(() => {
      this.#accumulate(x, (bytes) => this.#at(made.gradient, bytes));
      this.#accumulate(y, (bytes) => f32x4.neg(f32x4.mul(factors, this.#at(made.gradient, bytes))));
      f.set(factor.gradient, f32.sub(factor.gradient, this.#dot(made.gradient, y.value)));
    });
    return made;
  }

  /** A number with a gradient of zero so far. */
  number(name: string, value: Value<'f32'>): TapeNumber {
    const gradient = this.#f.local(`${name}Gradient`, 'f32');
    this.#f.set(gradient, 0);
    return { value: this.#f.let(name, value), gradient };
  }

  get #width(): number {
    return this.#emission.plan.widthStride;
  }

  #at(address: Local<'i32'>, bytes: Local<'i32'>): Vector {
    return v128.load(i32.add(address, bytes));
  }

  #each(body: (bytes: Local<'i32'>) => void): void {
    forVectors(this.#f, this.#width, body);
  }

  /** Room for a vector and its gradient, which is zero so far. */
  #vector(): TapeVector {
    const f = this.#f;
    const [value, gradient] = [0, 1].map((part) => f.let(part === 0 ? 'vector' : 'vectorGradient', i32.add(this.#area, (this.#used + part) * this.#width * 4)));
    this.#used += 2;
    if (value === undefined || gradient === undefined || this.#used > tapeVectors) throw new RangeError('the form of a token has too many vectors');
    fillVectors(f, gradient, this.#width, constantF32x4(0));
    return { value, gradient };
  }

  #made(element: (bytes: Local<'i32'>) => Vector): TapeVector {
    const made = this.#vector();
    this.#each((bytes) => {
      this.#f.do(v128.store(i32.add(made.value, bytes), element(bytes)));
    });
    return made;
  }

  #accumulate({ gradient }: TapeVector, term: (bytes: Local<'i32'>) => Vector): void {
    this.#each((bytes) => {
      const place = this.#f.let('place', i32.add(gradient, bytes));
      this.#f.do(v128.store(place, f32x4.add(v128.load(place), term(bytes))));
    });
  }

  #dot(x: Local<'i32'>, y: Local<'i32'>): Local<'f32'> {
    const f = this.#f;
    const sum = f.let('dot', constantF32x4(0));
    this.#each((bytes) => {
      f.set(sum, multiplyAdd(this.#emission.plan.machine, this.#at(x, bytes), this.#at(y, bytes), sum));
    });
    return f.let('dotProduct', sumOfLanes(sum));
  }
}

function present<Part>(part: Part | null): Part {
  if (part === null) throw new RangeError('the rule reads an input that it does not name');
  return part;
}
