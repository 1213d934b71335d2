import { expect, test } from 'vitest';
import { staleDocuments } from '../src/stale-documents.ts';

const fresh = { path: 'docs/tolerances.md', before: 'a', after: 'a', fromReports: false };
const fromCode = { path: 'docs/variants.md', before: 'a', after: 'b', fromReports: false };
const fromReports = { path: 'README.md', before: 'a', after: 'b', fromReports: true };

test('what comes from the code must be written everywhere, what comes from reports only in CI', () => {
  const said = (inCI: boolean): readonly (readonly (string | undefined)[])[] => {
    const { problems, notes } = staleDocuments([fresh, fromCode, fromReports], inCI);
    return [problems, notes].map((lines) => lines.map((line) => line.split(' ')[0]));
  };
  expect(said(false)).toEqual([['docs/variants.md'], ['README.md']]);
  expect(said(true)).toEqual([['docs/variants.md', 'README.md'], []]);
});
