import { AttentionError, restride, type DType, type HostTensor } from '@heed/core';
import { didYouMean, type Names } from '@heed/core/compute';
import type { MultiHeadWeights } from '../../attention/multi-head.ts';
import { checkOptionNames } from '../../options.ts';
import { checkCount } from '../../parameters.ts';
import { coreDtypes } from '../safetensors/header.ts';
import type { SafetensorsFile } from '../safetensors/read.ts';
import type { AttentionLocation, AttentionPart, WeightNames, WeightPiece } from './location.ts';
import { weightNames, type WeightModel } from './names.ts';

/** Which layer, and the sizes that the model's configuration states. */
export interface ReadAttentionOptions {
  readonly model: WeightModel;
  /** Counted from 0. */
  readonly layer: number;
  /** Default 'self'; T5 and Whisper have 'encoder', 'decoder' and 'cross'. */
  readonly part?: AttentionPart;
  readonly heads: number;
  /** Default: `heads`. */
  readonly keyHeads?: number;
  /** Width of the rows that come in. */
  readonly dim: number;
  /** Width of a head. Default dim / heads; Gemma 2 and T5 may have another. */
  readonly headDim?: number;
  /** Rounds every weight once to this storage type. Default: as stored. */
  readonly dtype?: DType;
}

const optionNames: Names<ReadAttentionOptions> = { model: true, layer: true, part: true, heads: true, keyHeads: true, dim: true, headDim: true, dtype: true };
const pieces = ['query', 'key', 'value', 'output', 'queryBias', 'keyBias', 'valueBias', 'outputBias'] as const;
type PieceName = (typeof pieces)[number];

/**
 * The weights of one attention layer from a file, in the order that `createMultiHeadAttention` takes: fused projections are split and transposed weights turned, as views.
 * T5's relative bias and positions of other models are weights of their own names.
 *
 * @throws AttentionError `invalid-file` with every name that is missing and every shape that differs, expected against found; `unsupported` for a part that the model lacks
 */
export async function readAttentionWeights(file: SafetensorsFile, options: ReadAttentionOptions): Promise<MultiHeadWeights> {
  checkOptionNames('the options of readAttentionWeights', options, optionNames);
  const { model, layer, part = 'self', heads, keyHeads = heads, dim, headDim = dim / heads, dtype } = options;
  for (const [name, size] of Object.entries({ heads, keyHeads, dim, headDim })) checkCount(name, size, 1);
  checkCount('layer', layer, 0);
  const { location, prefix } = find(file, model, part, layer);
  const outputs: Readonly<Record<PieceName, number>> = {
    query: heads * headDim, key: keyHeads * headDim, value: keyHeads * headDim, output: dim,
    queryBias: heads * headDim, keyBias: keyHeads * headDim, valueBias: keyHeads * headDim, outputBias: dim,
  };
  const inputs = { query: dim, key: dim, value: dim, output: heads * headDim } as const;
  const plans = pieces.flatMap((name) => planOf(name, location[name], { outputs, inputs: name in inputs ? inputs[name as keyof typeof inputs] : null }));
  const problems = plans.flatMap((plan) => problemOf(file, prefix, plan));
  if (problems.length > 0) {
    throw new AttentionError('invalid-file', `Layer ${layer} of ${model} (${part}) does not fit the file: ${[...new Set(problems)].join('; ')}.`, 'Check the sizes against the model’s config.json, and that all files of a model in parts are joined.');
  }
  const present = plans.filter(({ piece }) => file.entries.has(prefix + piece.name));
  // A fused tensor is read once.
  const read = new Map<string, Promise<HostTensor>>();
  const load = async (name: string): Promise<HostTensor> => {
    const loading = read.get(name) ?? file.read(name, dtype === undefined ? {} : { dtype });
    read.set(name, loading);
    return loading;
  };
  const weights = await Promise.all(present.map(async (plan) => [plan.name, viewOf(await load(prefix + plan.piece.name), plan)] as const));
  return Object.fromEntries(weights) as unknown as MultiHeadWeights;
}

/** A piece, what its tensor must look like, and which of its outputs are ours. */
interface PiecePlan {
  readonly name: PieceName;
  readonly piece: WeightPiece;
  /** Shape of the tensor in the file. */
  readonly shape: readonly number[];
  readonly first: number;
  readonly count: number;
}

function planOf(name: PieceName, piece: WeightPiece | null, { outputs, inputs }: { readonly outputs: Readonly<Record<PieceName, number>>; readonly inputs: number | null }): readonly PiecePlan[] {
  if (piece === null) return [];
  const count = outputs[name];
  const [first, all] = piece.part === null ? [0, count] : [{ query: 0, key: outputs.query, value: outputs.query + outputs.key }[piece.part], outputs.query + outputs.key + outputs.value];
  const shape = inputs === null ? [all] : piece.order === 'outputs first' ? [all, inputs] : [inputs, all];
  return [{ name, piece, shape, first, count }];
}

function problemOf(file: SafetensorsFile, prefix: string, { piece, shape }: PiecePlan): readonly string[] {
  const name = prefix + piece.name;
  const entry = file.entries.get(name);
  if (entry === undefined) return piece.optional ? [] : [`'${name}' is missing (expected [${shape.join(', ')}]). ${didYouMean(name, [...file.entries.keys()])}`.trim()];
  if (entry.shape.length !== shape.length || entry.shape.some((size, axis) => size !== shape[axis])) return [`'${name}' is [${entry.shape.join(', ')}], expected [${shape.join(', ')}]`];
  return coreDtypes.has(entry.fileDtype) ? [] : [`'${name}' has dtype ${entry.fileDtype}, expected one of ${[...coreDtypes.keys()].join(', ')}`];
}

/** [outputs, inputs], or [outputs] of a bias, without a copy. */
function viewOf(stored: HostTensor, { piece, first, count }: PiecePlan): HostTensor {
  const [axisOfOutputs, axisOfInputs] = piece.order === 'outputs first' ? [0, 1] : [1, 0];
  const bias = stored.shape.length === 1;
  const stride = stored.strides[bias ? 0 : axisOfOutputs] ?? 0;
  const shape = bias ? [count] : [count, stored.shape[axisOfInputs] ?? 0];
  return restride(stored, shape, bias ? [stride] : [stride, stored.strides[axisOfInputs] ?? 0], first * stride);
}

/** The form and prefix that the file follows: those whose query weight is there; else the usual ones, so that the message names what was expected. */
function find(file: SafetensorsFile, model: WeightModel, part: AttentionPart, layer: number): { readonly location: AttentionLocation; readonly prefix: string } {
  const names: WeightNames | undefined = Object.hasOwn(weightNames, model) ? weightNames[model] : undefined;
  if (names === undefined) throw new AttentionError('unsupported', `There are no names for a model '${model}'.`, `Known: ${Object.keys(weightNames).join(', ')}.`);
  const locations = names.forms.flatMap((form) => {
    const locate = form[part];
    return locate === undefined ? [] : names.prefixes.map((prefix) => ({ location: locate(layer), prefix }));
  });
  const [usual] = locations;
  if (usual === undefined) throw new AttentionError('unsupported', `${model} has no attention '${part}'.`, `It has ${names.forms.flatMap(Object.keys).join(', ')}.`);
  return locations.find(({ location, prefix }) => file.entries.has(prefix + location.query.name)) ?? usual;
}
