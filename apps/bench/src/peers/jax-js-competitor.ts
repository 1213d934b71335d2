import { AttentionError } from '@heed/core';
import type * as Jax from '@jax-js/jax';
import type { Competitor, Prepared } from '../competitor.ts';
import type { Inputs } from '../inputs.ts';
import type { Workload } from '../workloads.ts';
import { float32 } from './float32.ts';
import { swapHeadsAndTokens } from './heads-last.ts';
import { allScoresBytes, isPlainCausal, needsScoreTable, scoreTable, seesEverything } from './mask-table.ts';

/**
 * jax-js: `jit` of its own nn.dotProductAttention, on one of its devices.
 * @throws AttentionError `unsupported` where it has no such device
 */
export async function jaxJsCompetitor(jax: typeof Jax, device: 'wasm' | 'webgpu', about: Pick<Competitor, 'about' | 'limit'>): Promise<Competitor> {
  const devices = await jax.init(device);
  if (!devices.includes(device)) throw new AttentionError('unsupported', `jax-js has no device ${device}, only ${devices.join(', ')}.`, 'Leave it out.');
  jax.defaultDevice(device);
  return { name: 'jax-js', role: 'peer', ...about, refuses, prepare: async (workload, inputs) => Promise.resolve(prepare(jax, workload, inputs)), dispose: () => Promise.resolve() };
}

const largestScores = 512 * 2 ** 20;

function refuses(workload: Workload): string | null {
  const { layer, dtype } = workload;
  if (dtype !== 'f32') return `is compared in float32 only, not ${dtype}`;
  if (layer.scoring.kind !== 'dot') return `its attention has no ${layer.scoring.kind} scores`;
  if (layer.normalization !== 'softmax') return `its attention has no ${layer.normalization}`;
  if (layer.softcap !== null) return 'its attention has no softcap';
  if (layer.sink) return 'its attention has no sink';
  if (layer.position.kind === 'decomposed') return 'its attention has no relative positions of an image';
  if (layer.valueDim !== layer.queryDim) return 'its attention has one width for queries and values';
  if (allScoresBytes(workload) > largestScores) return `all its scores at once would take ${(allScoresBytes(workload) / 2 ** 30).toFixed(1)} GiB, several times over`;
  return null;
}

function prepare(jax: typeof Jax, workload: Workload, inputs: Inputs): Prepared {
  const { layer, batch, queryLength, keyLength } = workload;
  const { heads, keyHeads, queryDim, scale } = layer;
  const upload = (source: Float32Array, shape: readonly number[]): Jax.Array => jax.numpy.array(source as Float32Array<ArrayBuffer>, { shape: [...shape] });
  // [batch, length, heads, dim]
  const query = upload(swapHeadsAndTokens(float32(inputs.query), [batch, heads, queryLength, queryDim]), [batch, queryLength, heads, queryDim]);
  const key = upload(swapHeadsAndTokens(float32(inputs.key), [batch, keyHeads, keyLength, queryDim]), [batch, keyLength, keyHeads, queryDim]);
  const value = upload(swapHeadsAndTokens(float32(inputs.value), [batch, keyHeads, keyLength, queryDim]), [batch, keyLength, keyHeads, queryDim]);
  const added = needsScoreTable(workload) ? scoreTable(workload, inputs) : null;
  const isCausal = added === null && isPlainCausal(workload) && !seesEverything(workload);
  const bias = added === null ? null : upload(added.table, [1, added.heads, queryLength, keyLength]);
  const plain = jax.jit((q: Jax.Array, k: Jax.Array, v: Jax.Array) => jax.nn.dotProductAttention(q, k, v, { scale, isCausal }));
  const biased = jax.jit((q: Jax.Array, k: Jax.Array, v: Jax.Array, b: Jax.Array) => jax.nn.dotProductAttention(q, k, v, { scale, bias: b }));
  let output: Jax.Array | null = null;
  return {
    run: async () => {
      output?.dispose();
      output = bias === null ? plain(query.ref, key.ref, value.ref) : biased(query.ref, key.ref, value.ref, bias.ref);
      await output.blockUntilReady();
    },
    output: async () => {
      if (output === null) throw new AttentionError('internal', 'jax-js has no result.', 'Call run() first.');
      const elements = await output.ref.data();
      if (!(elements instanceof Float32Array)) throw new AttentionError('internal', 'jax-js returned no float32 result.', 'Report it.');
      return Float64Array.from(swapHeadsAndTokens(elements, [batch, queryLength, heads, queryDim]));
    },
    dispose: () => {
      for (const array of [query, key, value, bias, output]) array?.dispose();
      plain.dispose();
      biased.dispose();
    },
  };
}
