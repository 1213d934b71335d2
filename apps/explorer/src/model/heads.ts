import { tensor, type HostTensor } from '@heed/core';

/** Queries, keys and values of a few heads. */
export interface HeadTables {
  readonly names: readonly string[];
  /** [1, heads, length, dim] */
  readonly query: HostTensor;
  readonly key: HostTensor;
  /** [1, heads, length, valueDim] */
  readonly value: HostTensor;
}

/** A head that somebody built by hand, so that it is known what it looks for. */
interface HandBuiltHead {
  readonly name: string;
  readonly query: (tokens: readonly string[], index: number) => readonly number[];
  readonly key: (tokens: readonly string[], index: number) => readonly number[];
}

const dim = 16;
const valueDim = 8;

/** Sines and cosines of a position: the product of two such rows depends on their distance alone, and is largest at none. */
function positionRow(position: number): readonly number[] {
  return Array.from({ length: dim }, (_, channel) => {
    const angle = position * 1.6 ** -Math.floor(channel / 2);
    return channel % 2 === 0 ? Math.cos(angle) : Math.sin(angle);
  });
}

/** A unit row that a word fixes: like words have like rows, others are nearly orthogonal. */
function wordRow(word: string): readonly number[] {
  let state = 2166136261;
  for (const sign of word.toLowerCase()) state = Math.imul(state ^ (sign.codePointAt(0) ?? 0), 16777619);
  const row = Array.from({ length: dim }, () => {
    state = Math.imul(state ^ (state >>> 15), 2246822519) + 374761393;
    return (state >>> 0) / 2 ** 31 - 1;
  });
  const length = Math.hypot(...row);
  return row.map((element) => element / length);
}

/** What a few words are: thing, place, pronoun, action, time, reason. Others are nothing in particular. */
const features: Readonly<Record<string, readonly number[]>> = {
  bank: [1, 1, 0, 0, 0, 0], river: [1, 1, 0, 0, 0, 0], shop: [1, 1, 0, 0, 0, 0], cat: [1, 0, 0, 0, 0, 0], dog: [1, 0, 0, 0, 0, 0], animal: [1, 0, 0, 0, 0, 0], street: [1, 1, 0, 0, 0, 0],
  it: [0, 0, 1, 0, 0, 0], he: [0, 0, 1, 0, 0, 0], she: [0, 0, 1, 0, 0, 0], they: [0, 0, 1, 0, 0, 0],
  closed: [0, 0, 0, 1, 0, 0], open: [0, 0, 0, 1, 0, 0], was: [0, 0, 0, 0.5, 0, 0], is: [0, 0, 0, 0.5, 0, 0], slept: [0, 0, 0, 1, 0, 0],
  late: [0, 0, 0, 0, 1, 0], early: [0, 0, 0, 0, 1, 0], night: [0, 0, 0, 0, 1, 0], because: [0, 0, 0, 0, 0, 1], since: [0, 0, 0, 0, 0, 1],
};

/** What each feature asks for: pronouns for things and places, actions for things, reasons for actions and times. */
const wants: readonly (readonly number[])[] = [
  [0, 0, 0, 0.6, 0, 0],
  [0, 0, 0, 0.3, 0, 0],
  [2, 1, 0, 0, 0, 0],
  [1.5, 0, 0, 0, 0.5, 0],
  [0, 0, 0, 1, 0, 0.5],
  [0, 0, 0, 1.5, 1, 0],
];

function featuresOf(word: string | undefined): readonly number[] {
  return (word === undefined ? undefined : features[word.toLowerCase()]) ?? [0, 0, 0, 0, 0, 0];
}

function padded(row: readonly number[], factor: number): readonly number[] {
  return Array.from({ length: dim }, (_, channel) => factor * (row[channel] ?? 0));
}

const zeros: readonly number[] = padded([], 0);

/** Heads that ship with the page. Scores are scaled by 1/√dim = ¼ afterwards, which the factors make up for. */
const heads: readonly HandBuiltHead[] = [
  { name: 'word features', query: (tokens, index) => padded(featuresOf(tokens[index]).reduce<readonly number[]>((sum, share, feature) => sum.map((element, channel) => element + share * (wants[feature]?.[channel] ?? 0)), zeros.slice(0, 6)), 10), key: (tokens, index) => padded(featuresOf(tokens[index]), 1) },
  { name: 'previous token', query: (_, index) => padded(positionRow(index - 1), 6), key: (_, index) => positionRow(index) },
  { name: 'same token', query: (tokens, index) => padded(wordRow(tokens[index] ?? ''), 16), key: (tokens, index) => wordRow(tokens[index] ?? '') },
  { name: 'induction', query: (tokens, index) => padded(wordRow(tokens[index] ?? ''), 16), key: (tokens, index) => (index === 0 ? zeros : wordRow(tokens[index - 1] ?? '')) },
  { name: 'first token', query: () => padded([1], 12), key: (_, index) => padded([1], index === 0 ? 2 : 0) },
];

/** Queries, keys and values of the hand-built heads for a text's tokens. Values are rows of the words, and their features behind them. */
export function headsFor(tokens: readonly string[]): HeadTables {
  const rows = (of: (head: HandBuiltHead, index: number) => readonly number[], width: number): HostTensor =>
    tensor(Float32Array.from(heads.flatMap((head) => tokens.flatMap((_, index) => of(head, index)))), [1, heads.length, tokens.length, width]);
  return {
    names: heads.map(({ name }) => name),
    query: rows((head, index) => head.query(tokens, index), dim),
    key: rows((head, index) => head.key(tokens, index), dim),
    value: rows((_, index) => [...featuresOf(tokens[index]), ...wordRow(tokens[index] ?? '').slice(0, valueDim - 6)], valueDim),
  };
}
