import { AttentionError } from '@heed/core';
import type { ByteSource } from './source.ts';

/** The part of Node's `FileHandle` that is used. */
export interface FileHandleLike {
  stat(): Promise<{ readonly size: number }>;
  read(buffer: Uint8Array, offset: number, length: number, position: number): Promise<{ readonly bytesRead: number }>;
  close(): Promise<void>;
}

/**
 * An open file of Node, Deno's or Bun's `node:fs/promises`: `fileSource(await open(path))`. Pieces are read where they lie, so a large file costs the memory of what is asked
 * for; the operating system keeps its pages, as it would those of a mapped file, which no JavaScript engine offers.
 */
export function fileSource(handle: FileHandleLike): ByteSource {
  let closed: Promise<void> | undefined;
  return {
    size: async () => (await handle.stat()).size,
    read: async (start, length) => {
      const bytes = new Uint8Array(length);
      let done = 0;
      while (done < length) {
        const { bytesRead } = await handle.read(bytes, done, length - done, start + done);
        if (bytesRead === 0) throw new AttentionError('invalid-file', `The file ends at byte ${start + done}; byte ${start + length} was expected.`, 'Check that it was copied whole.');
        done += bytesRead;
      }
      return bytes;
    },
    close: () => (closed ??= handle.close()),
  };
}
