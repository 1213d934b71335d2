import { mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isAttentionError, toFloat64 } from '@heed/core';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { decodeEntry, headerLength, maxHeaderBytes, parseHeader, prefixBytes } from '../../src/weights/safetensors/header.ts';
import { openSafetensors } from '../../src/weights/safetensors/read.ts';
import { bytesSource } from '../../src/weights/sources/bytes.ts';
import { fileSource } from '../../src/weights/sources/file.ts';

const utf8 = new TextEncoder();

function header(value: unknown): Uint8Array {
  return utf8.encode(JSON.stringify(value));
}

/** A file as the format's page describes it, written by hand. */
function file(head: Uint8Array, data: Uint8Array, claimed = BigInt(head.length)): Uint8Array {
  const bytes = new Uint8Array(prefixBytes + head.length + data.length);
  new DataView(bytes.buffer).setBigUint64(0, claimed, true);
  bytes.set(head, prefixBytes);
  bytes.set(data, prefixBytes + head.length);
  return bytes;
}

function codeOf(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    if (isAttentionError(error)) return error.code;
    throw error;
  }
  return 'none';
}

const one = { dtype: 'F32', shape: [2], data_offsets: [0, 8] };

describe('a header', () => {
  test('gives its tensors in the order of their bytes', () => {
    const { entries, metadata } = parseHeader(header({ __metadata__: { format: 'pt' }, late: { dtype: 'F16', shape: [2, 1], data_offsets: [8, 12] }, early: one }), 12);
    expect([...metadata]).toEqual([['format', 'pt']]);
    expect(entries.map(({ name, begin, end }) => [name, begin, end])).toEqual([['early', 0, 8], ['late', 8, 12]]);
  });

  test('may describe nothing, scalars and empty tensors', () => {
    expect(parseHeader(header({}), 0).entries).toEqual([]);
    expect(parseHeader(header({ scalar: { dtype: 'F64', shape: [], data_offsets: [0, 8] }, empty: { dtype: 'F32', shape: [0, 3], data_offsets: [8, 8] } }), 8).entries).toHaveLength(2);
  });

  const refused: readonly (readonly [string, unknown, number])[] = [
    ['two tensors overlap', { a: one, b: { dtype: 'F32', shape: [2], data_offsets: [4, 12] } }, 12],
    ['a gap lies between two tensors', { a: one, b: { dtype: 'F32', shape: [1], data_offsets: [12, 16] } }, 16],
    ['a gap lies before the first', { a: { dtype: 'F32', shape: [1], data_offsets: [4, 8] } }, 8],
    ['the buffer is longer', { a: one }, 12],
    ['the buffer is shorter', { a: one }, 4],
    ['the shape and the bytes differ', { a: { dtype: 'F32', shape: [3], data_offsets: [0, 8] } }, 8],
    ['the dtype and the bytes differ', { a: { dtype: 'F64', shape: [2], data_offsets: [0, 8] } }, 8],
    ['the dtype is unknown', { a: { dtype: 'F33', shape: [2], data_offsets: [0, 8] } }, 8],
    ['a size is negative', { a: { dtype: 'F32', shape: [-2], data_offsets: [0, 8] } }, 8],
    ['a size is no integer', { a: { dtype: 'F32', shape: [2.5], data_offsets: [0, 10] } }, 10],
    ['a size is text', { a: { dtype: 'F32', shape: ['2'], data_offsets: [0, 8] } }, 8],
    ['the sizes overflow', { a: { dtype: 'F32', shape: [2 ** 40, 2 ** 40], data_offsets: [0, 8] } }, 8],
    ['the offsets run backwards', { a: { dtype: 'F32', shape: [2], data_offsets: [8, 0] } }, 8],
    ['there are three offsets', { a: { dtype: 'F32', shape: [2], data_offsets: [0, 8, 8] } }, 8],
    ['a field is missing', { a: { dtype: 'F32', shape: [2] } }, 8],
    ['an entry is null', { a: null }, 0],
    ['the metadata is not text', { __metadata__: { a: 1 } }, 0],
    ['it is a list', [], 0],
    ['it is null', null, 0],
  ];
  test.each(refused)('is refused when %s', (_, value, dataBytes) => {
    expect(codeOf(() => parseHeader(header(value), dataBytes))).toBe('invalid-file');
  });

  test('is refused when it is not JSON in UTF-8', () => {
    expect(codeOf(() => parseHeader(utf8.encode('{"a"'), 0))).toBe('invalid-file');
    expect(codeOf(() => parseHeader(Uint8Array.of(0x7b, 0xff, 0x7d), 0))).toBe('invalid-file');
    expect(codeOf(() => parseHeader(utf8.encode('['.repeat(200_000)), 0))).toBe('invalid-file');
  });

  test('is refused when a repeated key hides bytes', () => {
    const text = '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}';
    expect(codeOf(() => parseHeader(utf8.encode(text), 8))).toBe('invalid-file');
  });

  test('never makes anything but entries that tile the buffer, or invalid-file', () => {
    const field = fc.oneof(fc.jsonValue(), fc.constantFrom('F32', 'F16', 'I64'), fc.array(fc.integer({ min: -1, max: 20 }), { maxLength: 3 }));
    const entry = fc.record({ dtype: field, shape: field, data_offsets: field }, { requiredKeys: [] });
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.oneof(entry, fc.jsonValue())), fc.nat(64), (value, dataBytes) => {
        const code = codeOf(() => {
          const { entries } = parseHeader(header(value), dataBytes);
          expect(entries.reduce((sum, { begin, end }) => sum + end - begin, 0)).toBe(dataBytes);
        });
        expect(['none', 'invalid-file']).toContain(code);
      }),
    );
  });
});

describe('the length of the header', () => {
  test('is the little-endian number at the start', () => {
    expect(headerLength(Uint8Array.of(2, 1, 0, 0, 0, 0, 0, 0), 1000)).toBe(258);
  });

  test('is refused when the file is shorter than it claims, and when it is huge', () => {
    expect(codeOf(() => headerLength(Uint8Array.of(1, 2, 3), 3))).toBe('invalid-file');
    expect(codeOf(() => headerLength(Uint8Array.of(9, 0, 0, 0, 0, 0, 0, 0), 16))).toBe('invalid-file');
    expect(codeOf(() => headerLength(Uint8Array.of(255, 255, 255, 255, 255, 255, 255, 255), 2 ** 50))).toBe('invalid-file');
    const huge = new Uint8Array(8);
    new DataView(huge.buffer).setBigUint64(0, BigInt(maxHeaderBytes) + 1n, true);
    expect(codeOf(() => headerLength(huge, 2 ** 40))).toBe('invalid-file');
  });
});

describe('an entry', () => {
  // Bits of 1.5 and −2 in each type, from IEEE 754 and the definition of bfloat16.
  const encodings: readonly (readonly [string, readonly number[]])[] = [
    ['F64', [0, 0, 0, 0, 0, 0, 0xf8, 0x3f, 0, 0, 0, 0, 0, 0, 0, 0xc0]],
    ['F32', [0, 0, 0xc0, 0x3f, 0, 0, 0, 0xc0]],
    ['F16', [0x00, 0x3e, 0x00, 0xc0]],
    ['BF16', [0xc0, 0x3f, 0x00, 0xc0]],
  ];
  test.each(encodings)('of type %s decodes to the numbers that its bits mean, from any alignment', (fileDtype, bytes) => {
    const unaligned = Uint8Array.of(0, ...bytes).subarray(1);
    expect([...toFloat64(decodeEntry({ name: 'x', fileDtype, shape: [2], begin: 0, end: bytes.length }, unaligned))]).toEqual([1.5, -2]);
  });

  test('of a type that heed cannot hold is refused by name', () => {
    expect(codeOf(() => decodeEntry({ name: 'x', fileDtype: 'I64', shape: [1], begin: 0, end: 8 }, new Uint8Array(8)))).toBe('unsupported');
  });
});

describe('a file', () => {
  let folder = '';
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'heed-safetensors-'));
  });
  afterAll(() => rm(folder, { recursive: true }));

  async function codeOfFile(bytes: Uint8Array): Promise<string> {
    try {
      const opened = await openSafetensors(bytesSource(bytes));
      for (const name of opened.entries.keys()) await opened.read(name);
      await opened.close();
    } catch (error) {
      if (isAttentionError(error)) return error.code;
      throw error;
    }
    return 'none';
  }

  const good = file(header({ a: one, b: { dtype: 'BF16', shape: [1], data_offsets: [8, 10] } }), Uint8Array.of(0, 0, 0xc0, 0x3f, 0, 0, 0, 0xc0, 0x80, 0x3f));

  test('is read tensor by tensor', async () => {
    const path = join(folder, 'good.safetensors');
    await writeFile(path, good);
    const opened = await openSafetensors(fileSource(await open(path)));
    const read = await Promise.all([...opened.entries.keys()].map(async (name) => [name, [...toFloat64(await opened.read(name))]]));
    await opened.close();
    expect(read).toEqual([['a', [1.5, -2]], ['b', [1]]]);
  });

  test('cut off anywhere is refused', async () => {
    for (let length = 0; length < good.length; length++) expect(await codeOfFile(good.subarray(0, length))).toBe('invalid-file');
    expect(await codeOfFile(good)).toBe('none');
  });

  test('with any byte changed is read or refused, never anything else', async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(good.length - 1), fc.integer({ min: 0, max: 255 }), async (index, byte) => {
        const changed = good.slice();
        changed[index] = byte;
        expect(['none', 'invalid-file', 'unsupported']).toContain(await codeOfFile(changed));
      }),
      { numRuns: 200 },
    );
  });

  test('that shrinks while it is open is refused where it ends, and can be closed twice', async () => {
    const path = join(folder, 'shrinking.safetensors');
    await writeFile(path, good);
    const opened = await openSafetensors(fileSource(await open(path)));
    await writeFile(path, good.subarray(0, good.length - 4));
    await expect(opened.read('b')).rejects.toMatchObject({ code: 'invalid-file' });
    await opened.close();
    await opened.close();
  });

  test('is converted once, to nearest even', async () => {
    const opened = await openSafetensors(bytesSource(good));
    const half = await opened.read('a', { dtype: 'f16' });
    expect([half.dtype, ...half.view()]).toEqual(['f16', 0x3e00, 0xc000]);
    await expect(opened.read('c')).rejects.toMatchObject({ code: 'invalid-file', message: expect.stringContaining("'c'") as string });
  });
});
