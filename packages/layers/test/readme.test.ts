import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const folder = join(import.meta.dirname, '..');

test('the example of the README runs, and prints what it says', () => {
  const [, code = ''] = /```ts\n([\s\S]*?)```/.exec(readFileSync(join(folder, 'README.md'), 'utf8')) ?? [];
  const [, said = 'nothing'] = /console\.log\(.*\); \/\/ (.*)/.exec(code) ?? [];
  const { stdout, stderr } = spawnSync(process.execPath, ['--conditions=@heed/source', '--input-type=module-typescript', '--eval', code], { cwd: folder, encoding: 'utf8' });
  expect(`${stderr}${stdout}`.replace(/[\s]/g, '')).toBe(said.replace(/[\s]/g, ''));
});
