import { readFileSync } from 'node:fs';
import { expect, test, vi } from 'vitest';

test('the README’s example is a program that runs and prints what it says', async () => {
  const program = readFileSync(new URL('example.ts', import.meta.url), 'utf8');
  expect(readFileSync(new URL('../README.md', import.meta.url), 'utf8')).toContain(`\`\`\`ts\n${program}\`\`\``);
  const log = vi.spyOn(console, 'log').mockImplementation(() => undefined);
  await import('./example.ts');
  expect(log).toHaveBeenCalledExactlyOnceWith([1, 8, 2048, 64], [1, 8, 2048, 64]);
});
