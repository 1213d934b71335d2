/** The types of the values that WebAssembly's stack holds at each point, and the blocks that are open there. Every instruction is checked as it is written. */
import { EmitError } from './emit-error.ts';
import type { OpcodeName, ValueType } from './opcodes.ts';

/** The target of a branch: the end of a block, the start of a loop. */
export interface Label {
  readonly kind: 'label';
  readonly name: string;
}

interface Frame {
  readonly kind: 'function' | 'block' | 'loop' | 'if' | 'else';
  readonly label: Label;
  /** Height of the stack where the frame began. */
  readonly height: number;
  /** After a branch that is always taken, operands may be missing. */
  unreachable: boolean;
}

export class TypeStack {
  readonly #name: string;
  readonly #types: ValueType[] = [];
  readonly #frames: Frame[];

  /** @param name the function's, for messages */
  constructor(name: string) {
    this.#name = name;
    this.#frames = [{ kind: 'function', label: { kind: 'label', name }, height: 0, unreachable: false }];
  }

  get height(): number {
    return this.#types.length;
  }

  push(type: ValueType): void {
    this.#types.push(type);
  }

  pushAll(types: readonly ValueType[]): void {
    for (const type of types) this.#types.push(type);
  }

  /** Takes a value of any type. */
  drop(): void {
    const { height, unreachable } = this.#frame();
    if (this.#types.length > height) this.#types.pop();
    else if (!unreachable) throw this.error('drop: the stack is empty');
  }

  /**
   * Takes operands; unreachable code may lack them.
   * @param detail stands behind the instruction's name in the message
   */
  expect(name: OpcodeName, operands: readonly ValueType[], detail = ''): void {
    const { height, unreachable } = this.#frame();
    const types = this.#types;
    const count = Math.min(operands.length, types.length - height);
    let right = count === operands.length || unreachable;
    for (let last = 1; last <= count; last += 1) right &&= types[types.length - last] === operands[operands.length - last];
    if (!right) throw this.error(`${name}${detail}: expected ${list(operands)}, found ${list(types.slice(types.length - count))}`);
    types.length -= count;
  }

  open(kind: 'block' | 'loop' | 'if', name: string): Label {
    const label: Label = { kind: 'label', name };
    this.#frames.push({ kind, label, height: this.#types.length, unreachable: false });
    return label;
  }

  /** The other branch of the `if` at hand begins. */
  otherwise(label: Label): void {
    this.#checkEnd();
    const frame = this.#frames.pop();
    if (frame === undefined) throw this.error('else without if');
    this.#frames.push({ kind: 'else', label, height: frame.height, unreachable: false });
  }

  close(): void {
    this.#checkEnd();
    this.#frames.pop();
  }

  /** The function ends: its results must be on the stack, and nothing else. */
  end(results: readonly ValueType[]): void {
    if (this.#frames.length !== 1) throw this.error('a block was left open');
    if (!this.#frame().unreachable || this.#types.length > 0) this.expect('end', results);
    if (this.#types.length > 0) throw this.error(`end: ${list(this.#types)} left on the stack beyond the results`);
  }

  markUnreachable(): void {
    const frame = this.#frame();
    this.#types.length = frame.height;
    frame.unreachable = true;
  }

  /** How many frames a branch to the label leaves. */
  depth(label: Label): number {
    const index = this.#frames.findLastIndex((frame) => frame.label === label);
    if (index < 0) throw this.error(`branch to $${label.name}, which is not open here`);
    return this.#frames.length - 1 - index;
  }

  /** An error that says in which function and blocks it happened. */
  error(message: string): EmitError {
    const path = this.#frames.slice(1).map(({ kind, label }) => `${kind} $${label.name}`);
    return new EmitError(`${[`$${this.#name}`, ...path].join(', ')}: ${message}`);
  }

  #frame(): Frame {
    const frame = this.#frames.at(-1);
    if (frame === undefined) throw new EmitError(`$${this.#name}: already finished`);
    return frame;
  }

  #checkEnd(): void {
    const { height } = this.#frame();
    if (this.#types.length !== height) {
      throw this.error(`end: ${list(this.#types.slice(height))} left on the stack; carry values out of blocks in locals`);
    }
  }
}

export const list = (types: readonly ValueType[]): string => (types.length === 0 ? 'nothing' : types.join(' '));
