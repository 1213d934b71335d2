/** The README's program runs and prints what the README says. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';

const modules: Readonly<Record<string, () => Promise<unknown>>> = {
  '@heed/core': () => import('@heed/core'),
  '@heed/linear': () => import('../src/index.ts'),
  '@heed/linear/wasm': () => import('../src/wasm/index.ts'),
};

test('the example', async () => {
  const text = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
  const [, program = ''] = /```js\n(.*?)```/s.exec(text) ?? [];
  const body = program.replaceAll(/^import (\{.*\}) from '(.*)';$/gm, "const $1 = await load('$2');");
  const printed: string[] = [];
  const AsyncFunction = (async (): Promise<void> => undefined).constructor as new (...parts: readonly string[]) => (load: (name: string) => Promise<unknown> | undefined, console: unknown) => Promise<void>;
  await new AsyncFunction('load', 'console', body)((name) => modules[name]?.(), { log: (...parts: readonly unknown[]) => printed.push(parts.join(' ')) });
  expect(printed).toEqual(['1 × 8 × 1 × 64 after 101 tokens', 'back at 100']);
  for (const line of printed) expect(text).toContain(`\`${line}\``);
});
