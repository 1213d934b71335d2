import type { FastWeightState, HostTensor } from '@heed/core';
import { AttentionError, elementCount, isHostTensor, tensor, toFloat64 } from '@heed/core';

/** How the bytes of a state begin: a name and a version, in ASCII. */
const magic = 'heed.state/1';
/** Numbers begin at a multiple of this. */
const alignment = 8;

interface Entry {
  readonly name: string;
  readonly dtype: 'f32' | 'f64';
  readonly shape: readonly number[];
}

/**
 * A state as bytes: the magic word, the length of a JSON header (32 bits, little-endian), the header with the name, dtype and shape of each tensor, and their numbers one after another, little-endian.
 *
 * @param state tensors of the host; read others first
 * @throws AttentionError `foreign-tensor`, `invalid-state` for numbers that are neither f32 nor f64
 */
export function stateToBytes(state: FastWeightState): Uint8Array<ArrayBuffer> {
  const parts = Object.entries(state).map(([name, one]) => {
    if (!isHostTensor(one) || one.runtime !== null) throw new AttentionError('foreign-tensor', `State '${name}' lives on a runtime.`, 'Read it to the host first.');
    if (one.dtype !== 'f32' && one.dtype !== 'f64') throw new AttentionError('invalid-state', `State '${name}' is ${one.dtype}.`, 'Expected f32 or f64 (L12).');
    const host: HostTensor = one;
    return { entry: { name, dtype: one.dtype, shape: [...one.shape] } satisfies Entry, values: toFloat64(host) };
  });
  const header = new TextEncoder().encode(JSON.stringify(parts.map(({ entry }) => entry)));
  const start = aligned(magic.length + 4 + header.length);
  const size = parts.reduce((sum, { entry, values }) => sum + values.length * bytesOf(entry.dtype), start);
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  bytes.set(new TextEncoder().encode(magic));
  view.setUint32(magic.length, header.length, true);
  bytes.set(header, magic.length + 4);
  let at = start;
  for (const { entry, values } of parts) {
    for (const value of values) {
      if (entry.dtype === 'f32') view.setFloat32(at, value, true);
      else view.setFloat64(at, value, true);
      at += bytesOf(entry.dtype);
    }
  }
  return bytes;
}

/**
 * The state that {@link stateToBytes} wrote, as tensors of the host.
 * @throws AttentionError `invalid-state` for bytes that are no state, of another version, or cut off
 */
export function stateFromBytes(bytes: Uint8Array): FastWeightState<HostTensor> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const begins = new TextDecoder().decode(bytes.subarray(0, magic.length));
  if (begins !== magic || bytes.length < magic.length + 4) throw refused(`they begin with ${JSON.stringify(begins)}, not ${JSON.stringify(magic)}`);
  const headerLength = view.getUint32(magic.length, true);
  const entries = entriesOf(bytes.subarray(magic.length + 4, magic.length + 4 + headerLength));
  let at = aligned(magic.length + 4 + headerLength);
  const needed = entries.reduce((sum, { shape, dtype }) => sum + elementCount(shape) * bytesOf(dtype), at);
  if (bytes.length !== needed) throw refused(`there are ${bytes.length}, and their header asks for ${needed}`);
  return Object.fromEntries(entries.map(({ name, dtype, shape }) => {
    const count = elementCount(shape);
    const start = at;
    at += count * bytesOf(dtype);
    const values = dtype === 'f32' ? Float32Array.from({ length: count }, (_, index) => view.getFloat32(start + index * 4, true)) : Float64Array.from({ length: count }, (_, index) => view.getFloat64(start + index * 8, true));
    return [name, tensor(values, shape)] as const;
  }));
}

function entriesOf(header: Uint8Array): readonly Entry[] {
  let parsed: unknown;
  try {
    parsed = JSON.parse(new TextDecoder().decode(header));
  } catch (cause) {
    throw refused(`their header is no JSON: ${String(cause)}`);
  }
  if (!Array.isArray(parsed) || !parsed.every(isEntry)) throw refused('their header does not list tensors');
  return parsed;
}

function isEntry(candidate: unknown): candidate is Entry {
  if (typeof candidate !== 'object' || candidate === null) return false;
  const { name, dtype, shape } = candidate as Partial<Record<keyof Entry, unknown>>;
  return typeof name === 'string' && (dtype === 'f32' || dtype === 'f64') && Array.isArray(shape) && shape.every((size: unknown) => Number.isSafeInteger(size) && (size as number) >= 0);
}

function refused(why: string): AttentionError {
  return new AttentionError('invalid-state', `These bytes are no state: ${why}.`, 'Pass what stateToBytes returned, whole.');
}

function bytesOf(dtype: Entry['dtype']): number {
  return dtype === 'f32' ? 4 : 8;
}

function aligned(bytes: number): number {
  return Math.ceil(bytes / alignment) * alignment;
}
