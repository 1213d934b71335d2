import { AttentionError } from '@heed/core';
import type { ByteSource } from './source.ts';

/** The part of a `Response` that is used. */
export interface RangeResponse {
  readonly status: number;
  readonly headers: { get(name: string): string | null };
  arrayBuffer(): Promise<ArrayBuffer>;
}

export interface HttpSourceOptions {
  /** The platform's `fetch`, or one that adds what a server asks for. */
  readonly fetch: (url: string, init: { readonly headers: Readonly<Record<string, string>> }) => Promise<RangeResponse>;
  /** Bytes that the first request takes, most often the whole header. Default 65,536. */
  readonly firstBytes?: number;
}

/**
 * A file behind an address, in ranges (RFC 9110, section 14), so that a page loads the layers that it shows and no more.
 * @throws (when read) AttentionError `invalid-file` where the server sends no ranges, or other bytes than were asked for
 */
export function httpSource(url: string, { fetch, firstBytes = 65_536 }: HttpSourceOptions): ByteSource {
  const request = async (start: number, end: number): Promise<{ readonly bytes: Uint8Array; readonly total: number }> => {
    const response = await fetch(url, { headers: { range: `bytes=${start}-${end - 1}` } });
    if (response.status !== 206) throw refused(`${url} answered ${response.status} to a request for a range.`, 'Serve it with ranges, or pass bytesSource(new Uint8Array(await response.arrayBuffer())).');
    const range = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(response.headers.get('content-range') ?? '');
    const bytes = new Uint8Array(await response.arrayBuffer());
    if (range === null || Number(range[1]) !== start || bytes.byteLength !== Number(range[2]) - start + 1) {
      throw refused(`${url} sent ${bytes.byteLength} bytes as '${String(response.headers.get('content-range'))}' for bytes ${start} … ${end - 1}.`, 'Serve it with ranges whose total is told (content-range, readable across origins).');
    }
    return { bytes, total: Number(range[3]) };
  };
  let first: ReturnType<typeof request> | undefined;
  const begin = async (): ReturnType<typeof request> => {
    first ??= request(0, firstBytes);
    try {
      return await first;
    } catch (error) {
      // Another attempt may go better.
      first = undefined;
      throw error;
    }
  };
  return {
    size: async () => (await begin()).total,
    read: async (start, length) => {
      const { bytes, total } = await begin();
      if (start + length > total) throw refused(`${url} has ${total} bytes; byte ${start + length} was expected.`, 'Check that the file was copied whole.');
      if (start + length <= bytes.byteLength) return bytes.subarray(start, start + length);
      const piece = (await request(start, start + length)).bytes;
      if (piece.byteLength !== length) throw refused(`${url} sent ${piece.byteLength} bytes of ${length}.`, 'Try again.');
      return piece;
    },
    close: () => Promise.resolve(),
  };
}

function refused(message: string, hint: string): AttentionError {
  return new AttentionError('invalid-file', message, hint);
}
