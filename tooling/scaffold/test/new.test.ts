import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { addBackend } from '../src/backend.ts';
import { readCommand } from '../src/command.ts';
import { namesOf } from '../src/names.ts';
import { addVariant, stages } from '../src/variant.ts';

const root = resolve(import.meta.dirname, '../../..');

/** Compilers and the suite start as processes of their own. */
const patience = 120_000;

/** A copy of what the scaffold changes and what its result is compiled and run with; dependencies are linked. */
let copy: string;

beforeAll(() => {
  copy = realpathSync(mkdtempSync(join(tmpdir(), 'heed-scaffold-')));
  for (const file of ['package.json', 'tsconfig.json', 'tsconfig.base.json', 'pnpm-workspace.yaml', 'knip.json', '.gitignore', 'README.md', 'docs']) cpSync(join(root, file), join(copy, file), { recursive: true });
  for (const group of ['apps', 'examples']) mkdirSync(join(copy, group));
  for (const folder of ['packages/core', 'packages/conformance', 'tooling/checks', 'tooling/tsconfig', 'tooling/vitest', 'tooling/tsup', 'tooling/eslint']) {
    cpSync(join(root, folder), join(copy, folder), { recursive: true, verbatimSymlinks: true, filter: (path) => !/\/(dist|\.types|\.turbo|\.results|\.tarball|consumers)(\/|$)/.test(path.slice(root.length)) });
  }
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'), 'dir');
});

afterAll(() => {
  rmSync(copy, { recursive: true, force: true });
});

function run(folder: string, command: string, ...parameters: readonly string[]): void {
  const { status, stdout, stderr } = spawnSync(join(copy, folder, 'node_modules/.bin', command), parameters, { cwd: join(copy, folder), encoding: 'utf8' });
  expect(status, `${stdout}\n${stderr}`).toBe(0);
}

test('names are lower-case words joined by hyphens', () => {
  expect(namesOf('my-modifier')).toEqual({ kebab: 'my-modifier', camel: 'myModifier', pascal: 'MyModifier' });
  for (const wrong of ['MyModifier', 'my_modifier', '-x', 'x-', '', 'a b', '../x']) expect(() => namesOf(wrong)).toThrow('lower-case');
});

test.each(['class', 'new', 'await', 'arguments', 'undefined'])('the name %s is refused: no function can be called that', (word) => {
  expect(() => namesOf(word)).toThrow('JavaScript reserves');
  expect(namesOf(`${word}-x`).kebab).toBe(`${word}-x`);
});

describe('the command line', () => {
  const command = (...argv: readonly string[]): { readonly status: number | null; readonly stdout: string; readonly stderr: string } =>
    spawnSync(join(root, 'node_modules/.bin/node'), [join(root, 'tooling/scaffold/src/new.ts'), ...argv, '--root', copy], { encoding: 'utf8' });

  test.each([
    [['variant', 'masking', 'my-mask'], 'masking'],
    [['variant', 'my-mask', '--stage', 'masking'], 'masking'],
    [['variant', '--stage=masking', 'my-mask'], 'masking'],
    [['variant', 'my-mask'], 'modifier'],
  ] as const)('%j', (argv, stage) => {
    expect(readCommand(argv)).toEqual({ kind: 'variant', name: 'my-mask', stage, root: undefined });
  });

  test.each([
    [[], 'Say what to add: variant or backend.'],
    [['table'], "Got 'table'. Expected variant or backend."],
    [['variant'], 'Say the name of the variant.'],
    [['variant', 'a', 'b', 'c'], "Got 'a b c'. Expected a stage and a name."],
    [['variant', 'masking', 'a', '--stage', 'masking'], "Got 'masking a' and --stage. Expected a stage and a name."],
    [['backend', 'a', 'b'], "Got 'a b'. Expected a name alone."],
    [['variant', 'colour', 'a'], "Got the stage 'colour'. Expected one of scoring"],
    [['variant', 'a', '--stage'], '--stage needs a value.'],
    [['variant', 'a', '--colour'], "Unknown option '--colour'."],
  ] as const)('%j is refused in one line', (argv, message) => {
    expect(() => readCommand(argv)).toThrow(message);
  });

  test('help is given, and what is not understood is said with the usage, never with a stack', () => {
    for (const help of ['--help', '-h']) expect(command(help)).toMatchObject({ status: 0, stdout: expect.stringContaining('npx -y pnpm@12 new variant [STAGE] NAME') as string });
    const { status, stderr } = command('variant', 'a', '--colour');
    expect(status).toBe(2);
    expect(stderr).toMatch(/^Unknown option '--colour'\.\n\nnpx -y pnpm@12 new variant/);
    expect(stderr).not.toContain('    at ');
  });

  test('a new variant is in the documents at once', () => {
    const { status, stdout, stderr } = command('variant', 'modifier', 'documented-modifier');
    expect(status, stderr).toBe(0);
    expect(stdout).toContain('  docs/variants.md\n');
    expect(readFileSync(join(copy, 'docs/variants.md'), 'utf8')).toMatch(/^\| \[`documentedModifier.*`\]\(\.\.\/packages\/core\/src\/stages\/modifiers\/documented-modifier\.ts\) \| strength · score/m);
  }, patience);
});

describe('new variant', () => {
  test('a member of every stage compiles, passes its own test and the suite', () => {
    const names = Object.keys(stages).map((stage) => ({ stage, name: namesOf(`scaffolded-${stage}`) }));
    const written = names.flatMap(({ stage, name }) => addVariant(copy, name, stage));
    run('packages/core', 'tsc', '-b');
    run('packages/conformance', 'tsc', '-b', 'tsconfig.src.json');
    run('packages/core', 'eslint', '--max-warnings', '0', ...written.filter((path) => path.includes('scaffolded')).map((path) => path.replace('packages/core/', '')));
    run('packages/core', 'vitest', 'run', 'scaffolded');
    const filters = names.flatMap(({ stage, name }) => ['--filter', `${{ transform: 'transforms', modifier: 'modifiers', reweighing: 'normalization' }[stage] ?? stage}/${name.camel}`]);
    const { status, stdout } = spawnSync(
      join(root, 'node_modules/.bin/node'),
      ['--conditions=@heed/source', 'packages/conformance/src/command-line.ts', 'tooling/checks/backends/reference.ts', '--examples', '0', ...filters],
      { cwd: copy, encoding: 'utf8' },
    );
    expect(stdout).toContain(`${2 * names.length} passed, 0 failed`);
    expect(status).toBe(0);
  }, patience);

  test('a name that is taken and a stage that does not exist are refused, and nothing is written', () => {
    const before = readFileSync(join(copy, 'packages/core/src/index.ts'), 'utf8');
    expect(() => addVariant(copy, namesOf('softcap'), 'modifier')).toThrow('exists already');
    expect(() => addVariant(copy, namesOf('my-modifier'), 'colour')).toThrow('Expected one of scoring');
    expect(readFileSync(join(copy, 'packages/core/src/index.ts'), 'utf8')).toBe(before);
  });
});

describe('new backend', () => {
  test('a backend compiles, passes its own test and the whole suite', () => {
    addBackend(copy, namesOf('my-backend'));
    expect(readFileSync(join(copy, 'packages/my-backend/src/index.ts'), 'utf8')).toContain('export { createMyBackend }');
    cpSync(join(copy, 'packages/conformance/node_modules'), join(copy, 'packages/my-backend/node_modules'), { recursive: true, verbatimSymlinks: true });
    symlinkSync(join(copy, 'packages/conformance'), join(copy, 'packages/my-backend/node_modules/@heed/conformance'), 'dir');
    run('packages/my-backend', 'tsc', '-b');
    run('packages/my-backend', 'eslint', '.', '--max-warnings', '0');
    run('packages/my-backend', 'vitest', 'run');
    run('tooling/checks', 'knip', '--directory', '../..', '--workspace', 'packages/my-backend', '--dependencies', '--no-progress');
    symlinkSync(join(copy, 'packages/my-backend'), join(copy, 'tooling/checks/node_modules/@heed/my-backend'), 'dir');
    const { status, stdout } = spawnSync(
      join(root, 'node_modules/.bin/node'),
      ['--conditions=@heed/source', 'packages/conformance/src/command-line.ts', 'tooling/checks/backends/my-backend.ts', '--examples', '20'],
      { cwd: copy, encoding: 'utf8' },
    );
    expect(stdout).toMatch(/\d+ passed, 0 failed\s*$/);
    expect(status).toBe(0);
  }, patience);
});
