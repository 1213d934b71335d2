/** One head's recurrence; arrays are dense rows, [length, width] and [length, valueDim]. */
export interface PlainRecurrence {
  readonly length: number;
  readonly width: number;
  readonly valueDim: number;
  readonly scale: number;
  readonly query: ArrayLike<number>;
  readonly key: ArrayLike<number>;
  readonly value: ArrayLike<number>;
  /** Factor of row `channel` of the state at a token. Default 1. */
  readonly decay?: (token: number, channel: number) => number;
  /** β. Default 1. */
  readonly strength?: (token: number) => number;
  /** Whether what stands at the key is removed in part β. Default false. */
  readonly delta?: boolean;
  /** RWKV-7: what stands at κ̂ in the state before its decay is removed along η ⊙ κ̂. */
  readonly removal?: { readonly key: ArrayLike<number>; readonly weight: ArrayLike<number> };
  /** State before the first token, [width, valueDim]. Default zeros. */
  readonly state?: ArrayLike<number>;
}

/**
 * The recurrence of L12 in float64, token by token, written straight from its lines:
 *
 *     G ← decay · G;   then G ← G + β k (v − Gᵀk)ᵀ (delta) or G + β k vᵀ;   then read scale · Gᵀ q
 */
export function plainRecurrence(inputs: PlainRecurrence): { readonly output: Float64Array; readonly state: Float64Array } {
  const { length, width, valueDim, scale, query, key, value, decay = () => 1, strength = () => 1, delta = false, removal } = inputs;
  const state = Float64Array.from({ length: width * valueDim }, (_, index) => inputs.state?.[index] ?? 0);
  const output = new Float64Array(length * valueDim);
  for (let token = 0; token < length; token++) {
    const removed = removal === undefined ? null : recall(state, removal.key, token, width, valueDim);
    for (let channel = 0; channel < width; channel++) {
      const factor = decay(token, channel);
      // A decay of 0 forgets everything, also what is not finite.
      for (let e = 0; e < valueDim; e++) state[channel * valueDim + e] = factor === 0 ? 0 : factor * (state[channel * valueDim + e] ?? 0);
    }
    const held = delta ? recall(state, key, token, width, valueDim) : null;
    for (let channel = 0; channel < width; channel++) {
      const k = key[token * width + channel] ?? 0;
      const along = removal === undefined ? 0 : (removal.weight[token * width + channel] ?? 0) * (removal.key[token * width + channel] ?? 0);
      for (let e = 0; e < valueDim; e++) {
        const v = (value[token * valueDim + e] ?? 0) - (held?.[e] ?? 0);
        state[channel * valueDim + e] = (state[channel * valueDim + e] ?? 0) - along * (removed?.[e] ?? 0) + strength(token) * k * v;
      }
    }
    const read = recall(state, query, token, width, valueDim);
    for (let e = 0; e < valueDim; e++) output[token * valueDim + e] = scale * (read[e] ?? 0);
  }
  return { output, state };
}

/** Gᵀ x_token. */
function recall(state: Float64Array, rows: ArrayLike<number>, token: number, width: number, valueDim: number): Float64Array {
  const result = new Float64Array(valueDim);
  for (let channel = 0; channel < width; channel++) {
    const x = rows[token * width + channel] ?? 0;
    for (let e = 0; e < valueDim; e++) result[e] = (result[e] ?? 0) + x * (state[channel * valueDim + e] ?? 0);
  }
  return result;
}
