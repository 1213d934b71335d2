import { Writable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { formatBytes, formatMilliseconds, formatShare, threeDigits } from '../src/format.ts';
import { createProgress } from '../src/progress.ts';

test.each([
  [0.0123, '12.3 µs'],
  [0.83, '830 µs'],
  [4.236, '4.24 ms'],
  [999, '999 ms'],
  [1234, '1.23 s'],
  [90_000, '90 s'],
])('%d ms reads %s', (milliseconds, text) => {
  expect(formatMilliseconds(milliseconds)).toBe(text);
});

test.each([
  [0, '0 B'],
  [512, '512 B'],
  [1536, '1.5 KiB'],
  [64 * 2 ** 20, '64 MiB'],
  [2 ** 31, '2 GiB'],
])('%d bytes read %s', (bytes, text) => {
  expect(formatBytes(bytes)).toBe(text);
});

test.each([
  [1, '100 %'],
  [0.414, '41 %'],
  [0.0123, '1.2 %'],
  [0.00001, '0.001 %'],
  [Infinity, '∞ %'],
])('a share of %d reads %s', (share, text) => {
  expect(formatShare(share)).toBe(text);
});

test('large numbers are grouped and tiny ones have an exponent', () => {
  expect(threeDigits(1234567)).toBe('1,234,567');
  expect(threeDigits(0.00012345)).toBe('1.23e-4');
});

describe('progress', () => {
  function stream(isTTY: boolean): { readonly target: Writable & { isTTY: boolean; columns: number }; readonly written: () => string } {
    let text = '';
    const writable = new Writable({
      write(chunk: Buffer, _, done) {
        text += chunk.toString();
        done();
      },
    });
    return { target: Object.assign(writable, { isTTY, columns: 40 }), written: () => text };
  }

  test('is one plain line a step where there is no terminal', () => {
    const { target, written } = stream(false);
    const progress = createProgress(target);
    progress.step('first', 0);
    progress.step('second', 0.5);
    progress.finish();
    expect(written()).toBe('[  0%] first\n[ 50%] second\n');
  });

  test('rewrites one line, no wider than the terminal, and clears it', () => {
    const { target, written } = stream(true);
    const progress = createProgress(target);
    progress.step('a step with a name that is longer than the line', 0.5);
    progress.finish();
    const [, line] = written().split('\r\u001b[2K');
    expect(line).toHaveLength(39);
    expect(written()).not.toContain('\n');
    expect(written().endsWith('\u001b[2K')).toBe(true);
  });
});
