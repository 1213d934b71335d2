import type { Runtime } from '../backend.ts';
import { AttentionError } from '../errors.ts';
import type { DType, Tensor } from '../tensor.ts';
import { arrayKind, arrayKinds, dtypes, spanOf } from '../tensor.ts';
import { show } from '../show.ts';

/**
 * Checks that a value is a tensor: a known dtype, a shape, one stride for each axis, memory that holds them, and an owner that may be used here.
 *
 * @param what    how messages call it: 'query', "table 'slopes'"
 * @param runtime whose tensors are welcome beside those of the host; undefined: any one's
 * @throws AttentionError `invalid-tensor`, `invalid-dtype`, `foreign-tensor`
 */
export function checkTensor(what: string, candidate: unknown, runtime: Runtime | undefined): Tensor {
  if (typeof candidate !== 'object' || candidate === null || !('shape' in candidate) || !('strides' in candidate) || !('dtype' in candidate)) {
    throw new AttentionError('invalid-tensor', `Got ${show(candidate)} for ${what}.`, 'Pass a tensor: tensor(array, shape), or one that a runtime made.');
  }
  const { shape, strides, dtype } = candidate;
  if (!isSizes(shape) || !isSizes(strides) || strides.length !== shape.length) {
    throw new AttentionError('invalid-tensor', `${what} has shape ${show(shape)} and strides ${show(strides)}.`, 'Expected one size and one stride for each axis, integers of 0 or more.');
  }
  if (!isDType(dtype)) throw new AttentionError('invalid-dtype', `${what} has dtype ${show(dtype)}.`, `Expected one of ${dtypes.join(', ')}.`);
  const owner: unknown = 'runtime' in candidate ? candidate.runtime : null;
  if (owner !== null && runtime !== undefined && owner !== runtime) {
    throw new AttentionError('foreign-tensor', `${what} lives on another runtime than this kernel (${runtime.name}).`, 'Read it to the host, or upload it to the kernel’s runtime.');
  }
  if ('view' in candidate) checkMemory(what, candidate.view, candidate, dtype, spanOf(shape, strides));
  else if (owner === null) throw new AttentionError('invalid-tensor', `${what} has neither a runtime nor memory of the host.`, 'Make it with tensor(array, shape) or a runtime.');
  return candidate as Tensor;
}

function checkMemory(what: string, view: unknown, self: object, dtype: DType, span: number): void {
  const memory: unknown = typeof view === 'function' ? Reflect.apply(view, self, []) : null;
  if (!ArrayBuffer.isView(memory) || !('length' in memory) || typeof memory.length !== 'number') {
    throw new AttentionError('invalid-tensor', `The view of ${what} is ${show(memory)}.`, 'Expected view() to return the typed array of the dtype.');
  }
  const kind = arrayKind(memory);
  if (kind !== arrayKinds[dtype]) throw new AttentionError('invalid-dtype', `${what} says ${dtype} and holds a ${kind}.`, `Expected a ${arrayKinds[dtype]}.`);
  if (memory.length < span) {
    throw new AttentionError('invalid-tensor', `${what} needs ${span} elements for its shape and strides; its memory holds ${memory.length}.`, 'Pass a longer array or a smaller shape.');
  }
}

export function isDType(value: unknown): value is DType {
  return typeof value === 'string' && Object.hasOwn(arrayKinds, value);
}

function isSizes(value: unknown): value is readonly number[] {
  if (!Array.isArray(value)) return false;
  for (let axis = 0; axis < value.length; axis++) {
    const size: unknown = value[axis];
    if (!Number.isSafeInteger(size) || (size as number) < 0) return false;
  }
  return true;
}

/** Checks dtype and shape at once; `axes` names what each size is, for the message. */
export function checkForm(what: string, tensor: Tensor, dtype: DType, shape: readonly number[], axes: string): void {
  if (tensor.dtype !== dtype) throw new AttentionError('invalid-dtype', `${what} is ${tensor.dtype}.`, `Expected ${dtype}.`);
  if (tensor.shape.length !== shape.length || tensor.shape.some((size, axis) => size !== shape[axis])) {
    throw new AttentionError('invalid-shape', `${what} has shape [${tensor.shape.join(', ')}].`, `Expected [${shape.join(', ')}] (${axes}).`);
  }
}
