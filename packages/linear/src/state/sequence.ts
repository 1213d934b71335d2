import type { FastWeightInputs, FastWeightKernel, FastWeightOutputs, FastWeightState, HostTensor, Tensor } from '@heed/core';
import { AttentionError, isHostTensor } from '@heed/core';
import { stateFromBytes, stateToBytes } from './state-bytes.ts';

/** A place in a sequence that it can go back to. */
export interface StateMark {
  readonly position: number;
}

/** A state that several sequences or marks may hold; its tensors go back to their runtime with the last of them. */
class SharedState {
  readonly tensors: FastWeightState | undefined;
  readonly position: number;
  #holders = 0;

  constructor(tensors: FastWeightState | undefined, position: number) {
    this.tensors = tensors;
    this.position = position;
  }

  hold(): this {
    this.#holders += 1;
    return this;
  }

  letGo(): void {
    this.#holders -= 1;
    if (this.#holders > 0) return;
    for (const one of Object.values(this.tensors ?? {})) one.runtime?.release(one);
  }
}

/** What a segment brings: everything that a call binds but the state and the position, which the sequence has. */
export type SegmentInputs = Omit<FastWeightInputs, 'state' | 'offset' | 'packed'>;

/**
 * Tokens that come segment by segment, with the state between them. Kernels never change the state that they are given, so a mark or a fork is the state itself, not a copy.
 *
 *     const sequence = new FastWeightSequence(kernel);
 *     await sequence.run(prompt);
 *     const mark = sequence.mark();
 *     await sequence.run(draft);
 *     sequence.rollBack(mark);
 */
export class FastWeightSequence {
  readonly kernel: FastWeightKernel;
  readonly #marks = new Map<StateMark, SharedState>();
  #current: SharedState;
  #isBusy = false;

  /** @param state and the tokens that it has seen; default: none. The sequence takes the state over: it releases tensors of a runtime. */
  constructor(kernel: FastWeightKernel, begin: { readonly state?: FastWeightState; readonly position?: number } = {}) {
    this.kernel = kernel;
    this.#current = new SharedState(begin.state, begin.position ?? 0).hold();
  }

  /** Tokens so far: the position of the next one. */
  get position(): number {
    return this.#current.position;
  }

  /** The state after them; undefined before the first. */
  get state(): FastWeightState | undefined {
    return this.#current.tensors;
  }

  /**
   * Runs the next tokens. After an error the sequence stands where it stood.
   * @throws AttentionError those of the kernel; `invalid-argument` while another segment runs
   */
  async run(inputs: SegmentInputs): Promise<FastWeightOutputs> {
    if (this.#isBusy) throw new AttentionError('invalid-argument', 'A segment of this sequence is still running.', 'Await it first: each segment begins with the state of the one before.');
    const { tensors, position } = this.#current;
    this.#isBusy = true;
    try {
      const outputs = await this.kernel.run({ ...inputs, offset: position, ...(tensors === undefined ? {} : { state: tensors }) });
      this.#move(new SharedState(outputs.state, position + (inputs.query.shape[2] ?? 0)));
      return outputs;
    } finally {
      this.#isBusy = false;
    }
  }

  /** A mark at this place; hold few, since each keeps a state. */
  mark(): StateMark {
    const mark = Object.freeze({ position: this.position });
    this.#marks.set(mark, this.#current.hold());
    return mark;
  }

  /**
   * Goes back, or forward, to a mark. The mark stays.
   * @throws AttentionError `invalid-argument` for a mark of another sequence, or one that was forgotten
   */
  rollBack(mark: StateMark): void {
    this.#move(this.#marked(mark));
  }

  /** Lets go of a mark's state. */
  forget(mark: StateMark): void {
    this.#marked(mark).letGo();
    this.#marks.delete(mark);
  }

  /** Another sequence that begins here; both go on without each other. Marks stay with this one. */
  fork(): FastWeightSequence {
    const made = new FastWeightSequence(this.kernel);
    made.#move(this.#current);
    return made;
  }

  /** The state after the tokens so far, to be kept or sent; {@link FastWeightSequence.fromBytes} goes on from it. The position is not among the bytes. */
  async toBytes(): Promise<Uint8Array<ArrayBuffer>> {
    const read = async (one: Tensor): Promise<HostTensor> => {
      if (one.runtime !== null) return one.runtime.read(one);
      if (!isHostTensor(one)) throw new AttentionError('foreign-tensor', 'A tensor of the state is nowhere.', 'Pass tensors of the host or of the runtime.');
      return one;
    };
    const entries = await Promise.all(Object.entries(this.state ?? {}).map(async ([name, one]) => [name, await read(one)] as const));
    return stateToBytes(Object.fromEntries(entries));
  }

  /** @throws AttentionError `invalid-state` */
  static fromBytes(kernel: FastWeightKernel, bytes: Uint8Array, position: number): FastWeightSequence {
    const state = stateFromBytes(bytes);
    return new FastWeightSequence(kernel, { position, ...(Object.keys(state).length === 0 ? {} : { state }) });
  }

  /** Releases the states that nobody else holds. Not the kernel. */
  dispose(): void {
    for (const mark of [...this.#marks.keys()]) this.forget(mark);
    this.#move(new SharedState(undefined, 0));
  }

  #move(to: SharedState): void {
    const before = this.#current;
    this.#current = to.hold();
    before.letGo();
  }

  #marked(mark: StateMark): SharedState {
    const found = this.#marks.get(mark);
    if (found === undefined) throw new AttentionError('invalid-argument', 'This mark is not one of this sequence, or it was forgotten.', 'Pass what mark() returned.');
    return found;
  }
}
