import { AttentionError } from '@heed/core';
import type { ByteSource } from './source.ts';

/** The part of a `Blob` or `File` that is used: what a person drops on a page. */
export interface BlobLike {
  readonly size: number;
  slice(start: number, end: number): { arrayBuffer(): Promise<ArrayBuffer> };
}

/** A file of a browser, read in pieces from where it lies. */
export function blobSource(blob: BlobLike): ByteSource {
  return {
    size: () => Promise.resolve(blob.size),
    read: async (start, length) => {
      const bytes = new Uint8Array(await blob.slice(start, start + length).arrayBuffer());
      if (bytes.byteLength !== length) throw new AttentionError('invalid-file', `The file ends at byte ${start + bytes.byteLength}; byte ${start + length} was expected.`, 'Check that it was copied whole.');
      return bytes;
    },
    close: () => Promise.resolve(),
  };
}
