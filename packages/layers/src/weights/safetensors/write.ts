import { AttentionError, bytesPerElement, elementCount, encodeInto, isContiguous, isHostTensor, toFloat64, zeros, type DType, type HostTensor, type Tensor } from '@heed/core';
import { prefixBytes } from './header.ts';

const fileDtypes: Readonly<Record<DType, string>> = { f64: 'F64', f32: 'F32', f16: 'F16', bf16: 'BF16', i32: 'I32', i8: 'I8', u8: 'U8' };

export interface WriteOptions {
  /** Remarks, text by name. */
  readonly metadata?: Readonly<Record<string, string>>;
}

/**
 * The bytes of a safetensors file, piece by piece: the header, then each tensor, read to the host one at a time where it lives on a runtime.
 *
 *     await writeFile(path, safetensorsOf({ weight }));            // node:fs/promises takes it as it is
 *     const blob = new Blob(await Array.fromAsync(safetensorsOf({ weight })));
 *
 * Elements are little-endian, as every engine that runs this stores them. Tensors stand in the order of their alignment, then of their names.
 *
 * @throws AttentionError `invalid-argument` for the name `__metadata__`
 */
export async function* safetensorsOf(tensors: Readonly<Record<string, Tensor>>, { metadata = {} }: WriteOptions = {}): AsyncGenerator<Uint8Array, void, undefined> {
  if (Object.hasOwn(tensors, '__metadata__')) throw new AttentionError('invalid-argument', "A tensor is called '__metadata__'.", 'The format keeps that name for remarks.');
  const ordered = Object.entries(tensors).sort(([first, a], [second, b]) => bytesPerElement[b.dtype] - bytesPerElement[a.dtype] || (first < second ? -1 : 1));
  const header: Record<string, unknown> = Object.keys(metadata).length === 0 ? {} : { __metadata__: metadata };
  let position = 0;
  for (const [name, { dtype, shape }] of ordered) {
    const end = position + elementCount(shape) * bytesPerElement[dtype];
    header[name] = { dtype: fileDtypes[dtype], shape, data_offsets: [position, end] };
    position = end;
  }
  yield headerBytes(JSON.stringify(header));
  for (const [, source] of ordered) yield bytesOf(await toHost(source));
}

/** The header behind its length, filled with spaces so that the buffer begins at a multiple of 8. */
function headerBytes(text: string): Uint8Array {
  const json = new TextEncoder().encode(text);
  const bytes = new Uint8Array(prefixBytes + Math.ceil(json.byteLength / 8) * 8).fill(0x20);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(bytes.byteLength - prefixBytes), true);
  bytes.set(json, prefixBytes);
  return bytes;
}

async function toHost(source: Tensor): Promise<HostTensor> {
  if (source.runtime !== null) return source.runtime.read(source);
  if (isHostTensor(source)) return source;
  throw new AttentionError('foreign-tensor', 'Got a tensor whose elements the host cannot see.', 'Read it to the host first.');
}

function bytesOf(source: HostTensor): Uint8Array {
  const count = elementCount(source.shape);
  const view = isContiguous(source) ? source.view().subarray(0, count) : denseView(source);
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength).slice();
}

function denseView(source: HostTensor): ReturnType<HostTensor['view']> {
  const copy = zeros(source.shape, source.dtype);
  encodeInto(toFloat64(source), copy);
  return copy.view();
}
