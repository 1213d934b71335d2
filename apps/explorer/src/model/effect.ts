/**
 * What weights do not say of what a key does (Kobayashi 2020; Jain & Wallace 2019), for one head, in closed form where rows of weights sum as softmax's do.
 */
export interface Effects {
  /** [queryLength, keyLength] */
  readonly weights: Float32Array;
  /** ‖w v‖ of each pair: a large weight on a short value moves little. */
  readonly valueNorms: Float32Array;
  /** How far the output moves when the key is taken away and the weights of the others grow to fill its place: ‖w / (1 − w) · (o − v)‖. */
  readonly leaveOneOut: Float32Array;
}

/** @param share the softmax family shares a sum: the others of a row grow when one is taken away. Otherwise they stay, and what is lost is w v. */
export function effectsOf(weights: Float32Array, values: Float32Array, outputs: Float32Array, valueDim: number, share: boolean): Effects {
  const keyLength = valueDim === 0 ? 0 : values.length / valueDim;
  const valueNorms = new Float32Array(weights.length);
  const leaveOneOut = new Float32Array(weights.length);
  for (let pair = 0; pair < weights.length; pair++) {
    const weight = weights[pair] ?? 0;
    const [row, key] = [Math.floor(pair / keyLength), pair % keyLength];
    let [norm, moved] = [0, 0];
    for (let channel = 0; channel < valueDim; channel++) {
      const value = values[key * valueDim + channel] ?? 0;
      const away = (outputs[row * valueDim + channel] ?? 0) - value;
      norm += value * value;
      moved += share ? away * away : value * value;
    }
    valueNorms[pair] = Math.abs(weight) * Math.sqrt(norm);
    leaveOneOut[pair] = (share && weight < 1 ? Math.abs(weight / (1 - weight)) : Math.abs(weight)) * Math.sqrt(moved);
  }
  return { weights, valueNorms, leaveOneOut };
}

/** −Σ w ln w of each row (nats), 0 ln 0 = 0. */
export function entropies(weights: Float32Array, keyLength: number): Float32Array {
  return Float32Array.from({ length: keyLength === 0 ? 0 : weights.length / keyLength }, (_, row) => {
    let sum = 0;
    for (let key = 0; key < keyLength; key++) {
      const weight = weights[row * keyLength + key] ?? 0;
      if (weight > 0) sum -= weight * Math.log(weight);
    }
    return sum;
  });
}

/** Σ w of each row. */
export function rowSums(weights: Float32Array, keyLength: number): Float32Array {
  return Float32Array.from({ length: keyLength === 0 ? 0 : weights.length / keyLength }, (_, row) => weights.subarray(row * keyLength, (row + 1) * keyLength).reduce((sum, weight) => sum + weight, 0));
}
