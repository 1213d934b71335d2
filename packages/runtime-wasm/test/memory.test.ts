import { isAttentionError } from '@heed/core';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { blockAlignment, LinearMemory, pageBytes } from '../src/memory.ts';

const MiB = 2 ** 20;

describe('memory', () => {
  test.each([true, false])('blocks are aligned, hold what is written, and views are fresh after growth (shared: %s)', (shared) => {
    const memory = new LinearMemory({ shared });
    const small = memory.allocate(100);
    memory.f32(small, 25).fill(1.5);
    const large = memory.allocate(3 * MiB);
    memory.u8(large, 3 * MiB).fill(7);
    expect([small % blockAlignment, large % blockAlignment]).toEqual([0, 0]);
    expect(small).toBeGreaterThan(0);
    expect(memory.memory.buffer instanceof SharedArrayBuffer).toBe(shared);
    expect([...memory.f32(small, 25)]).toEqual(Array.from({ length: 25 }, () => 1.5));
    expect(memory.u8(large, 3 * MiB).at(-1)).toBe(7);
  });

  test('bytes and their peak are counted, padding included', () => {
    const memory = new LinearMemory();
    const a = memory.allocate(1000);
    const b = memory.allocate(0);
    expect(memory.bytes).toBe(1024 + 64);
    memory.release(a);
    memory.release(b);
    expect(memory.bytes).toBe(0);
    expect(memory.peakBytes).toBe(1088);
    memory.resetPeak();
    expect(memory.peakBytes).toBe(0);
  });

  test('released neighbours join, so that a block of their sum fits without growth', () => {
    const memory = new LinearMemory();
    const blocks = Array.from({ length: 64 }, () => memory.allocate(MiB));
    const guard = memory.allocate(64);
    const before = memory.memory.buffer.byteLength;
    for (const index of [0, 2, 4, 1, 3]) memory.release(blocks[index]!);
    expect(memory.allocate(5 * MiB)).toBe(blocks[0]);
    expect(memory.memory.buffer.byteLength).toBe(before);
    memory.release(guard);
  });

  test('the end of the address space is a typed error with both numbers, and smaller blocks still fit', () => {
    const memory = new LinearMemory({ maximumBytes: 32 * pageBytes });
    memory.allocate(MiB);
    const attempt = (): number => memory.allocate(MiB);
    expect(attempt).toThrow(/1048576 bytes.*1048576 bytes are live of 2097152/);
    try {
      attempt();
    } catch (error) {
      expect(isAttentionError(error, 'out-of-memory')).toBe(true);
    }
    expect(() => memory.allocate(2 ** 33)).toThrow(/8589934592/);
    expect(memory.allocate(64)).toBeGreaterThan(0);
  });

  test('sizes near 4 GiB are exact', () => {
    const memory = new LinearMemory({ shared: true });
    expect(() => memory.allocate(2 ** 32)).toThrow(/4294967296 bytes/);
    const block = memory.allocate(2.5 * 2 ** 30);
    const high = memory.allocate(64);
    expect(high).toBe(block + 2.5 * 2 ** 30);
    memory.f32(high, 1)[0] = 3;
    expect(memory.f32(high, 1)[0]).toBe(3);
    memory.release(block);
    expect(memory.bytes).toBe(64);
  });

  test('bad sizes and double releases are refused', () => {
    const memory = new LinearMemory();
    for (const size of [-1, 1.5, NaN, Infinity]) expect(() => memory.allocate(size)).toThrow(/invalid|integer/i);
    const block = memory.allocate(8);
    memory.release(block);
    expect(() => memory.release(block)).toThrow(/no live block/);
    expect(() => new LinearMemory({ maximumBytes: 8 })).toThrow(/maximum of 8/);
  });

  // The model: live blocks never overlap, never change under each other's writes, and everything fits again once released.
  test('random allocation against a model', () => {
    const step = fc.oneof(
      { weight: 3, arbitrary: fc.record({ kind: fc.constant('allocate' as const), size: fc.oneof(fc.nat(300), fc.nat(50_000)) }) },
      { weight: 2, arbitrary: fc.record({ kind: fc.constant('release' as const), pick: fc.nat() }) },
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const memory = new LinearMemory({ maximumBytes: 256 * pageBytes });
        const live: { address: number; size: number; mark: number }[] = [];
        const release = (index: number): void => {
          const [block] = live.splice(index, 1);
          const bytes = memory.u8(block!.address, block!.size);
          expect(bytes.every((byte) => byte === block!.mark)).toBe(true);
          memory.release(block!.address);
        };
        steps.forEach((one, index) => {
          if (one.kind === 'allocate') {
            const address = memory.allocate(one.size);
            memory.u8(address, one.size).fill(index & 255);
            live.push({ address, size: one.size, mark: index & 255 });
          } else if (live.length > 0) release(one.pick % live.length);
          const padded = live.reduce((sum, { size }) => sum + Math.max(64, Math.ceil(size / 64) * 64), 0);
          expect(memory.bytes).toBe(padded);
        });
        while (live.length > 0) release(live.length - 1);
        expect(memory.bytes).toBe(0);
        expect(memory.allocate(200 * pageBytes)).toBe(1024);
      }),
      { numRuns: 60 },
    );
  });
});
