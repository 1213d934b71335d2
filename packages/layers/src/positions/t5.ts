import { AttentionError, t5BucketTable, t5Bias, tensor, type HostTensor, type Modifier, type Runtime, type T5Buckets, type Tensor } from '@heed/core';

export interface T5BiasTableOptions extends T5Buckets {
  /** One number for each bucket and head, as checkpoints of T5 have it: [buckets, heads]. */
  readonly weight: HostTensor;
  /** Half of the buckets for keys after the query (encoders), or all for those before (decoders). */
  readonly bidirectional: boolean;
  /** Where the tables are to live, so that all layers read the same ones. */
  readonly runtime: Runtime;
}

/** The bias that all layers of a T5 stack share; the first layer of a checkpoint has its weight. */
export interface T5SharedBias {
  readonly modifier: Modifier;
  /** For every layer of the stack; tensors of the runtime. */
  readonly tables: Readonly<Record<string, Tensor>>;
  dispose(): void;
}

/**
 * Bucketed relative positions of T5 (Raffel 2020, section 2.1): `scaledDot({ scale: 1 }).modify(bias.modifier)`, and `tables: bias.tables` for each layer.
 * @throws AttentionError `invalid-shape`, `invalid-argument`
 */
export function t5SharedBias({ weight, bidirectional, runtime, ...buckets }: T5BiasTableOptions): T5SharedBias {
  const { buckets: count = 32, maxDistance = 128 } = buckets;
  const [rows = 0, heads = 0] = weight.shape;
  if (weight.shape.length !== 2 || rows !== count) throw new AttentionError('invalid-shape', `The weight of the T5 bias is [${weight.shape.join(', ')}].`, `Expected [${count} buckets, heads].`);
  const [rowStep = 0, headStep = 0] = weight.strides;
  const biases = runtime.upload(tensor(weight.view(), [heads, count], { dtype: weight.dtype, strides: [headStep, rowStep] }));
  const bucketTable = runtime.upload(tensor(t5BucketTable({ ...buckets, bidirectional }), [2 * maxDistance + 1]));
  return {
    modifier: t5Bias(buckets),
    tables: { t5Bias: biases, t5Buckets: bucketTable },
    dispose: () => {
      runtime.release(biases);
      runtime.release(bucketTable);
    },
  };
}
