import { attention, softcap, alibi, scaledDot, type Expression } from '@heed/core';
import { describe, expect, test } from 'vitest';
import { declareBuiltins, type Builtin } from '../src/wgsl/builtins.ts';
import { WgslLowering, type WgslEnvironment } from '../src/wgsl/expression.ts';
import { f32Literal, identifier, WgslWriter } from '../src/wgsl/writer.ts';

const environment: WgslEnvironment = {
  input: (name) => name,
  uniform: (name) => `parameters.${identifier('uniform', name)}`,
  table: ({ name }, indices) => `${identifier('table', name)}(${indices.join(', ')})`,
  queryTable: ({ name }, row) => `${name}(${row})`,
  random: () => 'noise',
};

function lower(expression: Expression): { readonly text: string; readonly builtins: ReadonlySet<Builtin> } {
  const writer = new WgslWriter();
  const builtins = new Set<Builtin>();
  const value = new WgslLowering(writer, environment, { builtins, locals: 0 }).lower(expression);
  return { text: `${writer.toString().trim()}${value}`, builtins };
}

describe('expressions as WGSL', () => {
  test('are what a person would write', () => {
    const [cap, bias] = attention({ scoring: scaledDot().modify(softcap(2), alibi()) }).scoring.modifiers;
    expect(lower(cap!.expression).text).toBe('parameters.uniform_softcap_cap * hyperbolicTangent(score / parameters.uniform_softcap_cap)');
    expect(lower(cap!.expression).builtins).toEqual(new Set(['hyperbolicTangent']));
    expect(lower(bias!.expression).text).toBe('score - (table_slopes(head) * f32(abs(queryPosition - keyPosition)))');
  });

  test('numbers are literals of their type, −∞ the lowest number', () => {
    expect([1, -0.5, 1e-30, 2 ** 40, -Infinity].map(f32Literal)).toEqual(['1.0f', '-0.5f', '1.0000000031710769e-30f', '1099511627776.0f', '-3.4028234663852886e38f']);
  });

  test('builtins are declared once, callees before callers', () => {
    const code = declareBuiltins(['sine', 'cosine', 'power']).join('\n');
    expect(code.match(/fn turned/g)).toHaveLength(1);
    expect(code.indexOf('fn exponential')).toBeLessThan(code.indexOf('fn power'));
  });
});
