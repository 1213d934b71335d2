import type { Dense } from './dense.ts';
import { checkRank, checkShape } from './dense.ts';

/**
 * y[t, c] = Σ_n weight[c, n] · x[t − taps + 1 + n, c] + bias[c] over x [batch, length, channels], with `tail` [batch, taps − 1, channels] before the first row.
 * @returns the output, and the last taps − 1 rows, which are the tail of the next segment
 */
export function causalConvolution(x: Dense, weight: Dense, tail: Dense | null, bias: Dense | null): { readonly output: Dense; readonly tail: Dense } {
  checkRank('causalConvolution’s x', x, 3, '[batch, length, channels]');
  checkRank('causalConvolution’s weight', weight, 2, '[channels, taps]');
  const [batch = 0, length = 0, channels = 0] = x.shape;
  const taps = weight.shape[1] ?? 0;
  checkShape('causalConvolution’s weight', weight, [channels, Math.max(1, taps)]);
  if (tail !== null) checkShape('causalConvolution’s tail', tail, [batch, taps - 1, channels]);
  if (bias !== null) checkShape('causalConvolution’s bias', bias, [channels]);
  const past = taps - 1;
  // Row −past … length − 1 of a sequence: first its tail, then x.
  const read = (sequence: number, row: number, channel: number): number =>
    (row < 0 ? tail?.data[(sequence * past + row + past) * channels + channel] : x.data[(sequence * length + row) * channels + channel]) ?? 0;
  const output = new Float64Array(x.data.length);
  const next = new Float64Array(batch * past * channels);
  for (let sequence = 0; sequence < batch; sequence++) {
    for (let channel = 0; channel < channels; channel++) {
      for (let row = 0; row < length; row++) {
        let sum = bias?.data[channel] ?? 0;
        for (let tap = 0; tap < taps; tap++) sum += (weight.data[channel * taps + tap] ?? 0) * read(sequence, row - past + tap, channel);
        output[(sequence * length + row) * channels + channel] = sum;
      }
      for (let row = 0; row < past; row++) next[(sequence * past + row) * channels + channel] = read(sequence, length - past + row, channel);
    }
  }
  return { output: { data: output, shape: x.shape }, tail: { data: next, shape: [batch, past, channels] } };
}
