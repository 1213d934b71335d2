/** Sizes and rows of one plain computation; arrays are dense, [batch, heads, length, dim]. */
export interface PlainInputs {
  readonly batch: number;
  readonly heads: number;
  readonly keyHeads: number;
  readonly queryLength: number;
  readonly keyLength: number;
  readonly dim: number;
  readonly valueDim: number;
  readonly query: ArrayLike<number>;
  readonly key: ArrayLike<number>;
  readonly value: ArrayLike<number>;
  /** Default 1/√dim. */
  readonly scale?: number;
  /** Default: all. */
  readonly allowed?: (at: PlainPair) => boolean;
  /** From the scaled score to the final one. Default: as it is. */
  readonly modify?: (score: number, at: PlainPair) => number;
  /** Logit of a query head in the denominator. Default: none. */
  readonly sink?: (head: number) => number;
}

export interface PlainPair {
  readonly batch: number;
  readonly head: number;
  /** Rows. */
  readonly query: number;
  readonly key: number;
}

export interface PlainOutputs {
  readonly output: Float64Array;
  readonly logSumExp: Float64Array;
  readonly scores: Float64Array;
  readonly modified: Float64Array;
  readonly masked: Float64Array;
  readonly weights: Float64Array;
}

/**
 * Softmax attention in float64, written straight from its formula and from nothing else in this project, for laws that must not rest on the reference alone:
 * what the backend under test and the reference have in common (masks, positions, head mapping) is here a plain function of row numbers.
 */
export function plainAttention(inputs: PlainInputs): PlainOutputs {
  const { batch, heads, keyHeads, queryLength, keyLength, dim, valueDim, query, key, value, scale = 1 / Math.sqrt(dim) } = inputs;
  const pairs = batch * heads * queryLength * keyLength;
  const outputs: PlainOutputs = {
    output: new Float64Array(batch * heads * queryLength * valueDim),
    logSumExp: new Float64Array(batch * heads * queryLength),
    scores: new Float64Array(pairs),
    modified: new Float64Array(pairs),
    masked: new Float64Array(pairs),
    weights: new Float64Array(pairs),
  };
  for (let b = 0; b < batch; b++) {
    for (let head = 0; head < heads; head++) {
      const keyHead = Math.floor((head * keyHeads) / heads);
      for (let i = 0; i < queryLength; i++) {
        const row = (b * heads + head) * queryLength + i;
        const queryAt = row * dim;
        const terms: number[] = [];
        for (let j = 0; j < keyLength; j++) {
          const keyAt = ((b * keyHeads + keyHead) * keyLength + j) * dim;
          let score = 0;
          for (let d = 0; d < dim; d++) score += (query[queryAt + d] ?? 0) * (key[keyAt + d] ?? 0);
          score *= scale;
          const at: PlainPair = { batch: b, head, query: i, key: j };
          const modified = inputs.modify?.(score, at) ?? score;
          const masked = (inputs.allowed?.(at) ?? true) ? modified : -Infinity;
          outputs.scores[row * keyLength + j] = score;
          outputs.modified[row * keyLength + j] = modified;
          outputs.masked[row * keyLength + j] = masked;
          terms.push(masked);
        }
        const sink = inputs.sink?.(head) ?? -Infinity;
        const top = Math.max(sink, ...terms);
        const sum = top === -Infinity ? 0 : terms.reduce((total, term) => total + Math.exp(term - top), Math.exp(sink - top));
        outputs.logSumExp[row] = sum === 0 ? -Infinity : top + Math.log(sum);
        for (let j = 0; j < keyLength; j++) {
          const weight = sum === 0 ? 0 : Math.exp((terms[j] ?? 0) - top) / sum;
          outputs.weights[row * keyLength + j] = weight;
          if (weight === 0) continue;
          const valueAt = ((b * keyHeads + keyHead) * keyLength + j) * valueDim;
          for (let e = 0; e < valueDim; e++) outputs.output[row * valueDim + e] = (outputs.output[row * valueDim + e] ?? 0) + weight * (value[valueAt + e] ?? 0);
        }
      }
    }
  }
  return outputs;
}
