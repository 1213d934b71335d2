import { describe, expect, test } from 'vitest';
import { join, noDeclarations } from '../../src/expression/declarations.ts';
import type { Declarations } from '../../src/expression/declarations.ts';
import { walk } from '../../src/expression/node.ts';
import { print } from '../../src/expression/print.ts';
import type { Formula } from '../../src/expression/scope.ts';
import { write } from '../../src/expression/scope.ts';
import { codeOf } from '../code-of.ts';

const capped = (value: number): Formula => write('modify', 'softcap', ({ score, uniform }) => score.mul(uniform('cap', value)));

function chain(...formulas: readonly Formula[]): { readonly declarations: Declarations; readonly texts: readonly string[] } {
  let declarations: Declarations = noDeclarations;
  const texts = formulas.map((formula) => {
    const joined = join(declarations, formula);
    declarations = joined.declarations;
    return print(joined.renamed.expression);
  });
  return { declarations, texts };
}

describe('join', () => {
  test('uniforms named alike are told apart, in order', () => {
    const { declarations, texts } = chain(capped(1), capped(2), capped(3));
    expect(texts).toEqual(['score * $softcap.cap', 'score * $softcap.cap#2', 'score * $softcap.cap#3']);
    expect(Object.entries(declarations.uniforms).map(([name, { value }]) => [name, value])).toEqual([['softcap.cap', 1], ['softcap.cap#2', 2], ['softcap.cap#3', 3]]);
  });

  test('names do not depend on values', () => {
    expect(chain(capped(1), capped(1)).texts).toEqual(chain(capped(1), capped(2)).texts);
  });

  test('two pieces that were joined before keep all their uniforms apart', () => {
    const pair = (a: number, b: number): Formula => {
      const second = join(capped(a), capped(b));
      return { ...second.declarations, expression: { kind: 'operation', type: 'f32', operator: 'add', operands: [capped(a).expression, second.renamed.expression] } };
    };
    const { declarations, renamed } = join(pair(1, 2), pair(3, 4));
    expect(Object.values(declarations.uniforms).map(({ value }) => value).sort()).toEqual([1, 2, 3, 4]);
    const used = [...walk(renamed.expression)].flatMap((node) => (node.kind === 'uniform' ? [declarations.uniforms[node.name]?.value] : []));
    expect(used).toEqual([3, 4]);
  });

  test('seeds are renamed with their uniform', () => {
    const noisy = (): Formula => write('modify', 'noise', ({ score, random, uniform }) => score.add(random(uniform('seed', 1, 'i32'))));
    expect(chain(noisy(), noisy()).texts).toEqual(['score + random($noise.seed, 0)', 'score + random($noise.seed#2, 0)']);
  });

  test('a table that both name is one table', () => {
    const biased = (axis: string): Formula => write('modify', 'biased', ({ score, head, table }) => score.add(table('bias', [axis]).at(head)));
    expect(Object.keys(chain(biased('head'), biased('head')).declarations.tables)).toEqual(['bias']);
    expect(codeOf(() => chain(biased('head'), biased('keyHead')))).toBe('invalid-variant');
  });

  test('names of object methods are names like others', () => {
    const read = write('modify', 'm', ({ score, head, table, uniform }) => score.add(table('constructor', ['head']).at(head)).mul(uniform('valueOf', 2)));
    expect(Object.keys(chain(read).declarations.tables)).toEqual(['constructor']);
  });
});
