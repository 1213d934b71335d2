import type { BoundSequence } from '@heed/core/compute';

/** Fields of a sequence in the buffer of integers, in order; positions are where they begin, −1 for an offset. */
export const sequenceFields = ['id', 'batch', 'tensorBatch', 'queryLength', 'keyLength', 'totalKeyLength', 'queryOffset', 'keyOffset', 'queryPositions', 'keyPositions'] as const;

/** Lists of integers of a call, one after another. */
export class Integers {
  readonly #lists: ArrayLike<number>[] = [];
  #length = 0;

  /** @returns where the list begins */
  list(values: ArrayLike<number>): number {
    const at = this.#length;
    this.#lists.push(values);
    this.#length += values.length;
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
    const words = new Int32Array(this.#length);
    let at = 0;
    for (const list of this.#lists) {
      words.set(list, at);
      at += list.length;
    }
    return words;
  }
}
