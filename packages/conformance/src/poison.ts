import type { AttentionInputs, HostTensor, Masking } from '@heed/core';
import { causal, mask, tensor, window } from '@heed/core';
import type { RandomSource } from './random.ts';
import { integerTensor, smallShape } from './inputs.ts';

const { batch, queryLength, keyLength } = smallShape;

/** A way to hide keys from queries in the small shape, with the rule that says which. */
export interface Hiding {
  readonly plan: string;
  readonly masking?: Masking;
  readonly inputs: Omit<Partial<AttentionInputs>, 'query' | 'key' | 'value'>;
  readonly hidden: (batch: number, query: number, key: number) => boolean;
}

const given = mask('given', ({ queryIndex, keyIndex, table }) => table('allowed', ['queryLength', 'keyLength'], 'bool').at(queryIndex, keyIndex));
const allowed = Array.from({ length: queryLength * keyLength }, (_, index) => ((index * 7) % 5 < 3 ? 1 : 0));
const documents = [0, 0, 1, 1, 1, 2, 2];
const sameDocument = mask('sameDocument', ({ queryPosition, keyPosition, table }) => {
  const document = table('document', ['keyLength'], 'i32');
  return document.at(queryPosition).eq(document.at(keyPosition));
});

export const hidings: Readonly<Record<string, Hiding>> = {
  causal: { plan: 'a causal mask', masking: causal(), inputs: { queryOffset: 1 }, hidden: (_batch, query, key) => key > query + 1 },
  window: { plan: 'a window of one key before and none after', masking: window({ left: 1, right: 0 }), inputs: { queryOffset: 2 }, hidden: (_batch, query, key) => key > query + 2 || key < query + 1 },
  keyLengths: { plan: 'the key lengths of the sequences', inputs: { keyLengths: [7, 4] }, hidden: (sequence, _query, key) => sequence === 1 && key >= 4 },
  table: {
    plan: 'a table of booleans, true where the key may be seen',
    masking: given,
    inputs: { tables: { allowed: integerTensor(allowed, [queryLength, keyLength], 'u8') } },
    hidden: (_batch, query, key) => allowed[query * keyLength + key] === 0,
  },
  documents: {
    plan: 'documents that see only themselves',
    masking: sameDocument,
    inputs: { queryOffset: 1, tables: { document: integerTensor(documents, [keyLength]) } },
    hidden: (_batch, query, key) => documents[query + 1] !== documents[key],
  },
  leftPadding: { plan: 'a key offset before position 0 and a mask of the user that wants positions of 0 or more', masking: mask('real', ({ keyPosition }) => keyPosition.ge(0)), inputs: { queryOffset: 0, keyOffset: [-2, 0] }, hidden: (sequence, _query, key) => sequence === 0 && key < 2 },
};

/** Rows of [batch, heads, queryLength] that may not see this key. */
export function blindRows(hiding: Hiding, key: number): (batch: number, head: number, row: number) => boolean {
  return (sequence, _head, row) => hiding.hidden(sequence, row, key);
}

/** The keys that at least one query may not see. */
export function hiddenKeys(hiding: Hiding): readonly number[] {
  return Array.from({ length: keyLength }, (_, key) => key).filter((key) => {
    for (let sequence = 0; sequence < batch; sequence++) for (let query = 0; query < queryLength; query++) if (hiding.hidden(sequence, query, key)) return true;
    return false;
  });
}

/** A copy of a dense f32 [batch, heads, length, dim] tensor in which row `row` of every sequence and head is made by `entry`. */
export function withRow(source: HostTensor, row: number, entry: (index: number) => number): HostTensor {
  const [, , length = 1, dim = 1] = source.shape;
  const data = Float32Array.from(source.view());
  for (let index = 0; index < data.length; index++) if (Math.floor(index / dim) % length === row) data[index] = entry(index);
  return tensor(data, source.shape);
}

/** Other finite numbers, much larger. */
export function otherNumbers(random: RandomSource): () => number {
  return () => 30 * random.normal();
}

