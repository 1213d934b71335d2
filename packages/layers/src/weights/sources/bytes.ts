import { AttentionError } from '@heed/core';
import type { ByteSource } from './source.ts';

/** An array that holds everything already. Pieces are views, not copies. */
export function bytesSource(bytes: Uint8Array): ByteSource {
  return {
    size: () => Promise.resolve(bytes.byteLength),
    read: (start, length) =>
      start + length <= bytes.byteLength
        ? Promise.resolve(bytes.subarray(start, start + length))
        : Promise.reject(new AttentionError('invalid-file', `The bytes end at ${bytes.byteLength}; byte ${start + length} was expected.`, 'Check that they were copied whole.')),
    close: () => Promise.resolve(),
  };
}
