import { describe, expect, test } from 'vitest';
import { attention, laser, maximum, outputGate, weightedSum, write } from '../../src/index.ts';
import { codeOf } from '../code-of.ts';
import { valueOf } from './place.ts';

describe('aggregation', () => {
  test('reductions are what they say', () => {
    expect([weightedSum().reduction, maximum().reduction, laser().reduction]).toEqual(['sum', 'max', 'logSumExp']);
  });

  test('outputGate multiplies by the sigmoid of its own element', () => {
    const gate = { sizes: [1, 2, 2, 3], data: Array.from({ length: 12 }, (_, index) => index - 6) };
    const { expression, ...declared } = outputGate();
    const at = (queryIndex: number, channel: number): number => valueOf(expression, declared, { output: 10, batch: 0, head: 1, queryIndex, channel }, { gate });
    expect(at(0, 0)).toBeCloseTo(5, 12);
    expect(at(1, 2)).toBeCloseTo(10 / (1 + Math.exp(-5)), 12);
    expect(declared.tables).toEqual({ gate: { type: 'f32', axes: ['batch', 'head', 'queryLength', 'valueDim'] } });
  });

  test('changes append: the second reads what the first has made', () => {
    const plusOne = write('prepare', 'plusOne', ({ value }) => value.add(1));
    const double = write('prepare', 'double', ({ value }) => value.mul(2));
    const member = weightedSum().prepareBy(plusOne).prepareBy(double);
    expect(valueOf(member.prepare, member, { value: 3 })).toBe(8);
    const finished = member.finishBy(write('finish', 'cap', ({ output, uniform }) => output.min(uniform('limit', 5)))).finishBy(write('finish', 'half', ({ output }) => output.mul(0.5)));
    expect(valueOf(finished.finish, finished, { output: 9 })).toBe(2.5);
    expect(finished.prepare).toBe(member.prepare);
  });

  test('one table under two declarations is refused', () => {
    const other = write('finish', 'other', ({ output, head, table }) => output.mul(table('gate', ['head']).at(head)));
    expect(codeOf(() => weightedSum().finishBy(outputGate()).finishBy(other))).toBe('invalid-variant');
  });

  test('finish is part of the structure', () => {
    expect(attention({ aggregation: weightedSum().finishBy(outputGate()) }).structure).not.toBe(attention().structure);
  });
});
