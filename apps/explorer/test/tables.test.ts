import { expect, test } from 'vitest';
import { firstTables, headFromTables, parseTable } from '../src/model/number-tables.ts';
import { maxTokens, tokensOf } from '../src/model/tokens.ts';

test('a table is a row a line, numbers between spaces, commas or semicolons', () => {
  expect(parseTable(' 1, 2;3\n\n4 5e-1 -6 ')).toEqual({ rows: [[1, 2, 3], [4, 0.5, -6]] });
});

test.each([
  ['', /empty/],
  ['1 NaN', /'NaN' is no finite number/],
  ['1 2\n3 ∞', /Row 2: '∞'/],
  ['1 2\n3', /Row 2 has 1 numbers, row 1 has 2/],
  [Array.from({ length: 129 }, () => '1').join('\n'), /129 rows/],
  [Array.from({ length: 65 }, () => '1').join(' '), /65 numbers/],
])('what is wrong with a table is said', (text, message) => {
  expect(parseTable(text)).toMatchObject({ message: expect.stringMatching(message) as string });
});

test('three tables are one head, or everything that is wrong with them', () => {
  const made = headFromTables(firstTables);
  expect('heads' in made && made.heads.query.shape).toEqual([1, 1, 3, 2]);
  expect(headFromTables({ query: '1 2', key: '1', value: '1\n2' })).toMatchObject({ problems: [{ table: 'key' }, { table: 'value' }] });
  expect(headFromTables({ query: 'x', key: '1', value: '' })).toMatchObject({ problems: [{ table: 'query' }, { table: 'value' }] });
});

test('a text is words and signs; a long one is cut where it is drawn', () => {
  expect(tokensOf("It's 3 o’clock — done.")).toEqual(["It's", '3', 'o’clock', '—', 'done', '.']);
  expect(tokensOf('')).toEqual([]);
  expect(tokensOf('word '.repeat(2000)).slice(0, maxTokens)).toHaveLength(128);
});
