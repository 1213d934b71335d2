import { expect, test } from 'vitest';
import { createCpuBackend, type CpuBackendOptions } from '../src/index.ts';

test('L20: an option that the backend does not have is refused, with the nearest one', async () => {
  const misspelt = { thread: 2 };
  await expect(createCpuBackend(misspelt as CpuBackendOptions)).rejects.toMatchObject({ code: 'invalid-argument', hint: expect.stringContaining("Did you mean 'threads'?") as string });
});
