import type { BoundSequence } from '@heed/core/compute';

/** Fields of a sequence in the buffer of integers, in order; positions are where they begin, −1 for an offset. */
export const sequenceFields = [
  'id', 'batch', 'tensorBatch', 'queryStart', 'keyStart', 'queryLength', 'keyLength', 'totalKeyLength', 'queryOffset', 'keyOffset', 'queryPositions', 'keyPositions',
] as const;

/** Fields of a task, in order. */
export const taskFields = ['sequence', 'head', 'rowsAt', 'rowCount', 'runsAt', 'runCount', 'observedAt'] as const;

/** Fields of a task of a split row, in order: some rows of one key head, and one part of their keys. */
export const splitFields = ['sequence', 'keyHead', 'rowsAt', 'rowCount', 'first', 'end', 'mixed'] as const;

/** Fields of a row that is brought together from parts, in order: part p is task firstPart + p · partStep, in which the row has its place. */
export const mergeFields = ['sequence', 'head', 'queryIndex', 'firstPart', 'partStep', 'partCount', 'place'] as const;

/** Fields of a run of keys, in order. */
export const runFields = ['first', 'end', 'mixed'] as const;

/** Integers of a call, written one after another; lists that are the same object are written once. */
export class Integers {
  readonly #words: number[] = [];
  readonly #known = new Map<object, number>();

  get length(): number {
    return this.#words.length;
  }

  /** @returns where the list begins */
  list(values: ArrayLike<number>, identity: object = values): number {
    const known = this.#known.get(identity);
    if (known !== undefined) return known;
    const at = this.#words.length;
    for (let index = 0; index < values.length; index += 1) this.#words.push(values[index] ?? 0);
    this.#known.set(identity, at);
    return at;
  }

  /** Records of all sequences. @returns where they begin */
  sequences(sequences: readonly BoundSequence[]): number {
    const records = sequences.flatMap((sequence) => {
      const { queryPositions, keyPositions } = sequence;
      const values: Readonly<Record<(typeof sequenceFields)[number], number>> = {
        ...sequence,
        queryPositions: queryPositions === null ? -1 : this.list(queryPositions),
        keyPositions: keyPositions === null ? -1 : this.list(keyPositions),
      };
      return sequenceFields.map((field) => values[field]);
    });
    return this.list(records);
  }

  words(): Int32Array<ArrayBuffer> {
    return Int32Array.from(this.#words);
  }
}
