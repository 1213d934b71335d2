/** A tensor of a file, or a part of one that holds several. */
export interface WeightPiece {
  /** Behind the prefix of the file. */
  readonly name: string;
  /** [outputs, inputs] as a linear layer stores it, or [inputs, outputs] as GPT-2's does. */
  readonly order: 'outputs first' | 'inputs first';
  /** Which of the outputs, where queries, keys and values stand one after another in one tensor; null: all. */
  readonly part: 'query' | 'key' | 'value' | null;
  /** Files may lack it. */
  readonly optional: boolean;
}

/** Where the weights of one attention layer stand. */
export interface AttentionLocation {
  readonly query: WeightPiece;
  readonly key: WeightPiece;
  readonly value: WeightPiece;
  readonly output: WeightPiece;
  readonly queryBias: WeightPiece | null;
  readonly keyBias: WeightPiece | null;
  readonly valueBias: WeightPiece | null;
  readonly outputBias: WeightPiece | null;
}

/** The attentions of a block: its own rows, an encoder's or a decoder's where a model has both, and a decoder's over the encoder. */
export type AttentionPart = 'self' | 'encoder' | 'decoder' | 'cross';

/** How files of one architecture name their attention. */
export interface WeightNames {
  /** Where names may begin, the usual one first: a file of the whole model has another than one of its trunk. */
  readonly prefixes: readonly string[];
  /** Ways to name a layer, of which a file follows one; each for the parts that the model has. */
  readonly forms: readonly Readonly<Partial<Record<AttentionPart, (layer: number) => AttentionLocation>>>[];
}

/** Four linear layers `<place><name>.weight`, and their biases. */
export function separate(
  place: string,
  names: { readonly query: string; readonly key: string; readonly value: string; readonly output: string },
  biases: Readonly<Record<'query' | 'key' | 'value' | 'output', 'always' | 'perhaps' | 'never'>>,
): AttentionLocation {
  const weight = (name: 'query' | 'key' | 'value' | 'output'): WeightPiece => ({ name: `${place}${names[name]}.weight`, order: 'outputs first', part: null, optional: false });
  const bias = (name: 'query' | 'key' | 'value' | 'output'): WeightPiece | null =>
    biases[name] === 'never' ? null : { name: `${place}${names[name]}.bias`, order: 'outputs first', part: null, optional: biases[name] === 'perhaps' };
  return {
    query: weight('query'), key: weight('key'), value: weight('value'), output: weight('output'),
    queryBias: bias('query'), keyBias: bias('key'), valueBias: bias('value'), outputBias: bias('output'),
  };
}

/** Queries, keys and values one after another along the outputs of one linear layer, each with all its heads. */
export function fused(place: string, names: { readonly projections: string; readonly output: string }, order: WeightPiece['order']): AttentionLocation {
  const piece = (name: string, part: WeightPiece['part']): WeightPiece => ({ name: `${place}${name}`, order, part, optional: false });
  const bias = (name: string, part: WeightPiece['part']): WeightPiece => ({ ...piece(name, part), order: 'outputs first', optional: true });
  const { projections, output } = names;
  return {
    query: piece(`${projections}.weight`, 'query'), key: piece(`${projections}.weight`, 'key'), value: piece(`${projections}.weight`, 'value'), output: piece(`${output}.weight`, null),
    queryBias: bias(`${projections}.bias`, 'query'), keyBias: bias(`${projections}.bias`, 'key'), valueBias: bias(`${projections}.bias`, 'value'), outputBias: bias(`${output}.bias`, null),
  };
}
