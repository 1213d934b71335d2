import { AttentionError } from '@heed/core';
import type * as Core from '@tensorflow/tfjs-core';
import type { Competitor, Prepared } from '../competitor.ts';
import type { Inputs } from '../inputs.ts';
import type { Workload } from '../workloads.ts';
import { float32 } from './float32.ts';
import { allScoresBytes, scoreTable, seesEverything } from './mask-table.ts';

/**
 * TensorFlow.js on the backend that it was set to: softmax(Q Kᵀ) V from its own operations, masks added to the scores.
 *
 * Its WebAssembly multiplies quickly only one matrix with one matrix that are not transposed; so keys are transposed beforehand, and each key head is a
 * product of its own with the queries of its whole group.
 *
 * @param settled resolves when everything that was called so far is done
 */
export function tfjsCompetitor(core: typeof Core, about: Pick<Competitor, 'about' | 'limit'>, settled: () => Promise<void> | void): Competitor {
  return {
    name: 'tfjs',
    role: 'peer',
    ...about,
    refuses,
    prepare: async (workload, inputs) => Promise.resolve(prepare(core, settled, workload, inputs)),
    dispose: () => Promise.resolve(),
  };
}

const largestScores = 512 * 2 ** 20;

function refuses(workload: Workload): string | null {
  const { layer, dtype } = workload;
  if (dtype !== 'f32') return `holds float32 only, not ${dtype}`;
  if (layer.scoring.kind !== 'dot') return `is compared by products, not by ${layer.scoring.kind} scores`;
  if (layer.normalization !== 'softmax') return `has no ${layer.normalization}`;
  if (layer.sink) return 'its softmax has no sink';
  if (layer.position.kind === 'decomposed') return 'is compared without relative positions of an image';
  if (allScoresBytes(workload) > largestScores) return `all its scores at once would take ${(allScoresBytes(workload) / 2 ** 30).toFixed(1)} GiB, several times over`;
  return null;
}

/** What one key head of one sequence brings to a call. */
interface Group {
  /** [1, group · queryLength, queryDim] */
  readonly query: Core.Tensor3D;
  /** [1, queryDim, keyLength] */
  readonly key: Core.Tensor3D;
  /** [1, keyLength, valueDim] */
  readonly value: Core.Tensor3D;
  /** Added to the scores, [1, group · queryLength, keyLength]; null where nothing is. */
  readonly table: Core.Tensor3D | null;
}

function prepare(core: typeof Core, settled: () => Promise<void> | void, workload: Workload, inputs: Inputs): Prepared {
  const { layer } = workload;
  const groups = groupsOf(core, workload, inputs);
  const scored = ({ query, key, table }: Group): Core.Tensor3D => {
    const scaled = core.mul<Core.Tensor3D>(core.matMul(query, key), layer.scale);
    const capped = layer.softcap === null ? scaled : core.mul<Core.Tensor3D>(core.tanh(core.div(scaled, layer.softcap)), layer.softcap);
    return table === null ? capped : core.add<Core.Tensor3D>(capped, table);
  };
  // [batch · keyHeads, group · queryLength, valueDim], which is [batch, heads, queryLength, valueDim]
  let output: Core.Tensor3D | null = null;
  return {
    run: () => {
      output?.dispose();
      output = core.tidy(() => core.concat(groups.map((group) => core.matMul<Core.Tensor3D>(core.softmax(scored(group)), group.value)), 0));
      return settled();
    },
    output: async () => {
      if (output === null) throw new AttentionError('internal', 'TensorFlow.js has no result.', 'Call run() first.');
      return Float64Array.from(await output.data<'float32'>());
    },
    dispose: () => {
      output?.dispose();
      for (const group of groups) core.dispose(Object.values(group).filter((part) => part !== null));
    },
  };
}

function groupsOf(core: typeof Core, workload: Workload, inputs: Inputs): readonly Group[] {
  const { layer, batch, queryLength, keyLength } = workload;
  const { keyHeads, queryDim, valueDim } = layer;
  const rows = (layer.heads / keyHeads) * queryLength;
  const part = (source: Float32Array, index: number, height: number, width: number): Core.Tensor3D => core.tensor3d(source.subarray(index * height * width, (index + 1) * height * width), [1, height, width]);
  const tables = tablesOf(workload, inputs);
  return Array.from({ length: batch * keyHeads }, (_, index): Group => {
    const table = tables?.[index % tables.length] ?? null;
    return {
      query: part(float32(inputs.query), index, rows, queryDim),
      key: core.tidy(() => core.transpose(part(float32(inputs.key), index, keyLength, queryDim), [0, 2, 1])),
      value: part(float32(inputs.value), index, keyLength, valueDim),
      table: table === null ? null : core.tensor3d(table, [1, rows, keyLength]),
    };
  });
}

/** What is added to the scores of each key head's group, or of all alike, [group · queryLength, keyLength] each; null where nothing is. */
function tablesOf(workload: Workload, inputs: Inputs): readonly Float32Array[] | null {
  const { layer, queryLength, keyLength } = workload;
  const alibi = layer.position.kind === 'alibi';
  if (!alibi && seesEverything(workload)) return null;
  const { table, heads } = scoreTable(workload, inputs);
  const group = layer.heads / layer.keyHeads;
  const size = queryLength * keyLength;
  return Array.from({ length: heads === 1 ? 1 : layer.keyHeads }, (_, keyHead) => {
    const repeated = new Float32Array(group * size);
    for (let inGroup = 0; inGroup < group; inGroup++) {
      const head = heads === 1 ? 0 : keyHead * group + inGroup;
      repeated.set(table.subarray(head * size, (head + 1) * size), inGroup * size);
    }
    return repeated;
  });
}
