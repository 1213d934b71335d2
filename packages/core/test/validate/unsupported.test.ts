import { expect, test } from 'vitest';
import { unsupported } from '../../src/unsupported.ts';
import { createReferenceBackend } from '../../src/reference/backend.ts';
import { requestOf } from './calls.ts';

test('a refusal names every reason, and a remedy that several share once', () => {
  const error = unsupported([
    { stage: 'dtype', reason: 'query is i8', remedy: 'Use f32.' },
    { stage: 'dtype', reason: 'key is i8', remedy: 'Use f32.' },
    { stage: 'dims', reason: 'valueDim is 9', remedy: 'Use at most 8.' },
  ]);
  expect(error.code).toBe('unsupported');
  expect(error.message).toBe('dtype: query is i8; dtype: key is i8; dims: valueDim is 9. Use f32. Use at most 8.');
});

test('so does the reference, for two widths that are too large', async () => {
  const wide = 2 ** 21;
  const backend = createReferenceBackend();
  await expect(backend.prepare(requestOf({}, { queryDim: wide, keyDim: wide }))).rejects.toMatchObject({
    code: 'unsupported',
    message: `dims: queryDim is ${wide}; dims: keyDim is ${wide}. Use at most ${2 ** 20}.`,
  });
  await backend.dispose();
});
