import { encode, type HostTensor, isHostTensor, tensor, toFloat64 } from '@heed/core';
import type { Inputs } from './inputs.ts';

/** A dense tensor as plain data that can be sent to another process. */
interface PackedTensor {
  readonly packed: ReturnType<HostTensor['view']>;
  readonly shape: readonly number[];
  readonly dtype: HostTensor['dtype'];
}

/** {@link Inputs} with plain data in the place of every tensor. */
export type PackedInputs = Packed<Inputs>;

type Packed<T> = T extends HostTensor ? PackedTensor : { readonly [K in keyof T]: Packed<T[K]> };

/** Copies inputs into plain data. */
export function packInputs(inputs: Inputs): PackedInputs {
  return mapLeaves(inputs, (leaf) => (isTensor(leaf) ? { packed: encode(toFloat64(leaf), leaf.dtype), shape: [...leaf.shape], dtype: leaf.dtype } : null)) as PackedInputs;
}

/** Makes tensors of plain data again. */
export function unpackInputs(packed: PackedInputs): Inputs {
  return mapLeaves(packed, (leaf) => (isPacked(leaf) ? tensor(leaf.packed, leaf.shape, { dtype: leaf.dtype }) : null)) as Inputs;
}

function mapLeaves(value: object, leafOf: (value: object) => object | null): object {
  const leaf = leafOf(value);
  return leaf ?? Object.fromEntries(Object.entries(value as Record<string, object>).map(([name, inner]) => [name, mapLeaves(inner, leafOf)]));
}

function isTensor(value: object): value is HostTensor {
  return 'strides' in value && isHostTensor(value as HostTensor);
}

function isPacked(value: object): value is PackedTensor {
  return 'packed' in value;
}
