import { AttentionError, encode, tensor, toFloat64, type DType, type HostTensor } from '@heed/core';
import { didYouMean } from '@heed/core/compute';
import type { ByteSource } from '../sources/source.ts';
import { broken, decodeEntry, headerLength, parseHeader, prefixBytes, type TensorEntry } from './header.ts';

/** A checked file. Tensors are read one at a time, so that a large file costs no more memory than what is asked for. */
export interface SafetensorsFile {
  /** By name. */
  readonly entries: ReadonlyMap<string, TensorEntry>;
  /** The file's own remarks. */
  readonly metadata: ReadonlyMap<string, string>;
  /**
   * One tensor, stored as the file has it or rounded once to `dtype`.
   * @throws AttentionError `invalid-file` for a name that it lacks, `unsupported` for a type that heed cannot hold
   */
  read(name: string, options?: { readonly dtype?: DType }): Promise<HostTensor>;
  close(): Promise<void>;
}

/**
 * Checks the whole header of a safetensors file: 8 bytes with the length of a JSON header (little-endian), the header, and one buffer that its tensors tile without gaps
 * (huggingface/safetensors, README "Format"). Every number is checked before it is used, so a broken or hostile file is an error and never a wrong tensor.
 *
 * @throws AttentionError `invalid-file`; the source is closed then
 */
export async function openSafetensors(source: ByteSource): Promise<SafetensorsFile> {
  try {
    const size = await source.size();
    const length = headerLength(await source.read(0, Math.min(prefixBytes, size)), size);
    const start = prefixBytes + length;
    const { entries, metadata } = parseHeader(await source.read(prefixBytes, length), size - start);
    const byName = new Map(entries.map((entry) => [entry.name, entry] as const));
    return {
      entries: byName,
      metadata,
      read: async (name, { dtype } = {}) => {
        const entry = byName.get(name);
        if (entry === undefined) throw unknown(name, byName);
        const stored = decodeEntry(entry, await source.read(start + entry.begin, entry.end - entry.begin));
        return dtype === undefined || dtype === stored.dtype ? stored : tensor(encode(toFloat64(stored), dtype), stored.shape, { dtype });
      },
      close: () => source.close(),
    };
  } catch (error) {
    await source.close();
    throw error;
  }
}

/**
 * The parts of a model that is published in several files, as one.
 * @throws AttentionError `invalid-file` where two have a tensor of one name
 */
export function joinSafetensors(files: readonly SafetensorsFile[]): SafetensorsFile {
  const owner = new Map<string, SafetensorsFile>();
  const entries = new Map<string, TensorEntry>();
  for (const file of files) {
    for (const [name, entry] of file.entries) {
      if (owner.has(name)) throw broken(`Two of the files hold a tensor '${name}'.`);
      owner.set(name, file);
      entries.set(name, entry);
    }
  }
  return {
    entries,
    metadata: new Map(files.flatMap(({ metadata }) => [...metadata])),
    read: async (name, options) => {
      const file = owner.get(name);
      if (file === undefined) throw unknown(name, entries);
      return file.read(name, options);
    },
    close: async () => {
      await Promise.all(files.map(async (file) => file.close()));
    },
  };
}

function unknown(name: string, entries: ReadonlyMap<string, TensorEntry>): AttentionError {
  return new AttentionError('invalid-file', `The file holds no tensor '${name}'.`, `${didYouMean(name, [...entries.keys()])}It holds ${entries.size} tensors.`);
}
