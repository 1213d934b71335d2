import { expect, test } from 'vitest';
import { fromHash, initial, toHash, type ExplorerState } from '../src/state/state.ts';

const other: ExplorerState = {
  view: 'graph', text: 'a & b #1 = ü', tables: { query: '1 2', key: '3 4', value: '5\n' }, head: 3, backend: 'reference', scoring: 'cosine', modifiers: ['softcap', 'alibi'], masking: 'window', normalization: 'entmax', aggregation: 'laser',
  typedScore: 'score - 0.5 * abs(q - k)', typedMask: 'k <= q && q - k < 4', uniforms: { 'window.left': 3, scale: 0.25 },
};

test('an address says all of a view, and no more than differs from the beginning', () => {
  expect(fromHash(`#${toHash(other)}`)).toEqual(other);
  expect(toHash(initial)).toBe('');
  expect(fromHash('')).toEqual(initial);
});

test('what an address says wrongly is as at the beginning', () => {
  expect(fromHash('#view=nowhere&backend=gpu&scoring=__proto__&masking=toString&head=-1&modifiers=none%20softcap&$scale=fast')).toEqual({ ...initial, modifiers: ['softcap'] });
});
