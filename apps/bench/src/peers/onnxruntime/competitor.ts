import { AttentionError } from '@heed/core';
import type { InferenceSession, InferenceSessionFactory, Tensor, TensorConstructor } from 'onnxruntime-common';
import type { Competitor, Prepared } from '../../competitor.ts';
import type { Inputs } from '../../inputs.ts';
import type { Workload } from '../../workloads.ts';
import { allScoresBytes } from '../mask-table.ts';
import { attention } from './attention.ts';
import { groupQueryAttention, groupQueryAttentionInPlace } from './group-query-attention.ts';
import { oneOperatorModel } from './model.ts';
import { multiHeadAttention } from './multi-head-attention.ts';
import type { Fed, Operator } from './operator.ts';

/** What the native and the WebAssembly build of ONNX Runtime have in common, and where they differ. */
export interface OnnxRuntime {
  readonly library: { readonly InferenceSession: InferenceSessionFactory; readonly Tensor: TensorConstructor };
  readonly session: InferenceSession.SessionOptions;
  /** Whether a call writes into outputs that the caller gives it. */
  readonly writesGivenOutputs: boolean;
  /** Bytes that all scores of a call may take: its operators keep them, some of them several times. */
  readonly largestScores: number;
  /** Where inputs are put beforehand, and how to wait for a call, where calls return before they are done. Default: on the host, and calls return when done. */
  readonly device?: { readonly place: (tensor: Fed) => Tensor; readonly settled: () => Promise<void> };
}

const operators: readonly Operator[] = [attention, multiHeadAttention, groupQueryAttention, groupQueryAttentionInPlace];

/** ONNX Runtime as a competitor: one session of one operator for each workload, whichever of its operators is quickest. */
export function onnxruntimeCompetitor(runtime: OnnxRuntime, about: Pick<Competitor, 'name' | 'about' | 'limit' | 'restMilliseconds'>): Competitor {
  const usable = operators.filter(({ inPlace }) => runtime.writesGivenOutputs || !inPlace);
  return {
    ...about,
    role: 'peer',
    refuses: (workload) => refuses(usable, runtime.largestScores, workload),
    ways: (workload) => usable.filter((operator) => operator.refuses(workload) === null).map(({ way }) => way),
    async prepare(workload, inputs, way) {
      const operator = usable.find((one) => (way === undefined ? one.refuses(workload) === null : one.way === way));
      if (operator === undefined) throw new AttentionError('unsupported', `${about.name} has no way '${way ?? ''}' for this layer.`, 'Ask ways() first.');
      return prepare(runtime, operator, workload, inputs);
    },
    dispose: () => Promise.resolve(),
  };
}

function refuses(usable: readonly Operator[], largestScores: number, workload: Workload): string | null {
  const { layer, dtype } = workload;
  if (dtype !== 'f32') return `is compared in float32 only, not ${dtype}`;
  if (layer.scoring.kind !== 'dot') return `no operator has ${layer.scoring.kind} scores`;
  if (layer.normalization !== 'softmax') return `no operator has ${layer.normalization}`;
  if (layer.position.kind === 'decomposed') return 'no operator has relative positions of an image';
  if (allScoresBytes(workload) > largestScores) return `all its scores at once would take ${(allScoresBytes(workload) / 2 ** 30).toFixed(1)} GiB, more than the ${(largestScores / 2 ** 30).toFixed(1)} GiB it may have here`;
  const reasons = usable.map((operator) => ({ way: operator.way, reason: operator.refuses(workload) }));
  if (reasons.some(({ reason }) => reason === null)) return null;
  return reasons.map(({ way, reason }) => `${way} ${reason ?? ''}`).join('; ');
}

async function prepare({ library, session: options, writesGivenOutputs, device }: OnnxRuntime, operator: Operator, workload: Workload, inputs: Inputs): Promise<Prepared> {
  const called = operator.call(workload, inputs);
  const { inputs: fed, outputs, attributes } = called;
  const named = outputs.map(({ name }) => ({ name, type: 'float32' }) as const);
  const model = oneOperatorModel({ operator: operator.operator, domain: operator.domain, inputs: fed, outputs: named, attributes });
  const session = await library.InferenceSession.create(model, options);
  const feeds = Object.fromEntries(fed.filter((input) => input !== null).map((input) => [input.name, device?.place(input) ?? tensorOf(library.Tensor, input)]));
  // Reused like heed's own outputs; where a call allocates its outputs, that is its way and is in its time.
  const fetches = Object.fromEntries(outputs.map(({ name, shape, inPlaceOf }) => [name, inPlaceOf === undefined ? null : feeds[inPlaceOf], shape] as const).map(([name, shared, shape]) => [name, shared ?? new library.Tensor('float32', new Float32Array(shape.reduce((count, size) => count * size, 1)), shape)]));
  const result = outputs[0]?.name ?? '';
  let last: Tensor | undefined;
  return {
    run: async () => {
      const returned = writesGivenOutputs ? await session.run(feeds, fetches) : await session.run(feeds, [result]);
      if (device !== undefined) last?.dispose();
      last = returned[result];
      await device?.settled();
    },
    output: async () => {
      const elements = await last?.getData();
      if (!(elements instanceof Float32Array)) throw new AttentionError('internal', 'ONNX Runtime returned no float32 result.', 'Call run() first.');
      return Float64Array.from(called.read(elements));
    },
    dispose: async () => session.release(),
  };
}

function tensorOf(Tensor: TensorConstructor, { type, elements, shape }: Fed): Tensor {
  return new Tensor(type, elements, shape);
}
