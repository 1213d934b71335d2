/**
 * Reorders dense [batch, outer, inner, dim] as [batch, inner, outer, dim]: heads before tokens becomes tokens before heads, and back.
 */
export function swapHeadsAndTokens(source: Float32Array, [batch, outer, inner, dim]: readonly [number, number, number, number]): Float32Array {
  const swapped = new Float32Array(source.length);
  for (let sequence = 0; sequence < batch; sequence++) {
    for (let o = 0; o < outer; o++) {
      for (let i = 0; i < inner; i++) {
        const from = ((sequence * outer + o) * inner + i) * dim;
        swapped.set(source.subarray(from, from + dim), ((sequence * inner + i) * outer + o) * dim);
      }
    }
  }
  return swapped;
}
