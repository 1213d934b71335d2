import { encode, permute, tensor, toFloat64, type DType, type HostTensor } from '@heed/core';
import { createCpuBackend } from '@heed/cpu';
import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { joinSafetensors, openSafetensors } from '../../src/weights/safetensors/read.ts';
import { safetensorsOf } from '../../src/weights/safetensors/write.ts';
import { blobSource } from '../../src/weights/sources/blob.ts';
import { bytesSource } from '../../src/weights/sources/bytes.ts';
import { bytesOf } from './bytes-of.ts';

const cpu = await createCpuBackend({ threads: 1 });
afterAll(async () => cpu.dispose());

describe('a file that was written', () => {
  test('is the format’s own bytes: length, JSON filled to a multiple of 8, tensors by alignment and name', async () => {
    const bytes = await bytesOf(safetensorsOf({ b: tensor(Uint8Array.of(7), [1]), a: tensor([1.5], [1]) }, { metadata: { format: 'pt' } }));
    const json = '{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[1],"data_offsets":[4,5]}}';
    const length = Math.ceil(json.length / 8) * 8;
    expect(Number(new DataView(bytes.buffer).getBigUint64(0, true))).toBe(length);
    expect(new TextDecoder().decode(bytes.subarray(8, 8 + length))).toBe(json.padEnd(length));
    expect([...bytes.subarray(8 + length)]).toEqual([0, 0, 0xc0, 0x3f, 7]);
  });

  test('holds every number of every type, shape and order that went in', async () => {
    const dtypes: readonly DType[] = ['f64', 'f32', 'f16', 'bf16', 'i32', 'i8', 'u8'];
    const array = fc.record({ dtype: fc.constantFrom(...dtypes), rows: fc.nat(4), columns: fc.nat(4), turned: fc.boolean() });
    await fc.assert(
      fc.asyncProperty(fc.dictionary(fc.string().filter((name) => name !== '__metadata__'), array, { maxKeys: 5 }), async (described) => {
        const tensors = Object.fromEntries(Object.entries(described).map(([name, { dtype, rows, columns, turned }], seed) => {
          const values = Float64Array.from({ length: rows * columns }, (_, place) => (place * 37 + seed * 11) % 100);
          const made = tensor(encode(values, dtype), [rows, columns], { dtype });
          return [name, turned ? permute(made, [1, 0]) : made];
        }));
        const file = await openSafetensors(bytesSource(await bytesOf(safetensorsOf(tensors))));
        expect([...file.entries.keys()].sort()).toEqual(Object.keys(tensors).sort());
        for (const [name, written] of Object.entries(tensors)) {
          const read = await file.read(name);
          expect([read.dtype, read.shape, [...toFloat64(read)]]).toEqual([written.dtype, written.shape, [...toFloat64(written)]]);
        }
      }),
      { numRuns: 50 },
    );
  });

  test('may come from a runtime, and be read from a blob', async () => {
    const source = tensor([1, 2, 3, 4], [2, 2]);
    const pieces: BlobPart[] = [];
    for await (const piece of safetensorsOf({ here: cpu.runtime.upload(source) })) pieces.push(piece as Uint8Array<ArrayBuffer>);
    const file = await openSafetensors(blobSource(new Blob(pieces)));
    expect([...(await file.read('here')).view()]).toEqual([1, 2, 3, 4]);
  });

  test('keeps the name of remarks free', async () => {
    await expect(bytesOf(safetensorsOf({ __metadata__: tensor([1], [1]) }))).rejects.toMatchObject({ code: 'invalid-argument' });
  });
});

test('a model in parts is one file, and two tensors of one name are refused', async () => {
  const part = async (tensors: Readonly<Record<string, HostTensor>>): ReturnType<typeof openSafetensors> => openSafetensors(bytesSource(await bytesOf(safetensorsOf(tensors))));
  const [first, second] = [await part({ a: tensor([1], [1]) }), await part({ b: tensor([2], [1]) })];
  const whole = joinSafetensors([first, second]);
  expect([[...(await whole.read('a')).view()], [...(await whole.read('b')).view()]]).toEqual([[1], [2]]);
  await expect(whole.read('c')).rejects.toMatchObject({ code: 'invalid-file' });
  expect(() => joinSafetensors([first, first])).toThrow(expect.objectContaining({ code: 'invalid-file' }));
});
