import { describe, expect, test } from 'vitest';
import { arrowProblems, importsOf } from '../src/arrows.ts';

/** Problems of files given as path → text. What is expected comes from the table of arrows in the design. */
const problems = (files: Readonly<Record<string, string>>): readonly string[] => arrowProblems(new Map(Object.entries(files)));

describe('imports are found however they are written', () => {
  test.each([
    [`import { a } from './x.ts';`, false],
    [`import './x.ts';`, false],
    [`import * as x from './x.ts';`, false],
    [`import type { A } from './x.ts';`, true],
    [`import { type A } from './x.ts';`, false],
    [`export { a } from './x.ts';`, false],
    [`export * from './x.ts';`, false],
    [`export type { A } from './x.ts';`, true],
    [`const x = await import('./x.ts');`, false],
    ['const x = await import(`./x.ts`);', false],
    [`let x: import('./x.ts').A;`, true],
    [`new Worker(new URL('./x.ts', import.meta.url), { type: 'module' });`, false],
  ])('%s', (text, typeOnly) => {
    expect(importsOf('a.ts', `\n${text}`)).toEqual([{ specifier: './x.ts', line: 2, typeOnly }]);
  });

  test.each([`// import './x.ts';`, `const text = "import './x.ts'";`, `/** @see {@link import('./x.ts').A} */ const a = 1;`, `new URL('./x.ts', base);`])('not in %s', (text) => {
    expect(importsOf('a.ts', text)).toEqual([]);
  });
});

describe('arrows between packages', () => {
  test.each([
    ['packages/core/src/a.ts', 'node:fs'],
    ['packages/core/src/a.ts', 'left-pad'],
    ['packages/core/src/a.ts', '@heed/conformance'],
    ['packages/core/src/a.ts', '../../cpu/src/kernel.ts'],
    ['packages/runtime-wasm/src/a.ts', '@heed/cpu'],
    ['packages/cpu/src/a.ts', '@heed/webgpu'],
    ['packages/cpu/src/a.ts', '@heed/core/reference'],
    ['packages/cpu/src/a.ts', 'node:os'],
    ['packages/webgpu/src/a.ts', '@heed/runtime-wasm'],
    ['packages/layers/src/a.ts', '@heed/runtime-wasm'],
    ['packages/conformance/src/a.ts', 'vitest'],
    ['packages/without-a-row/src/a.ts', '@heed/runtime-wasm'],
  ])('%s may not import %s', (file, specifier) => {
    expect(problems({ [file]: `import '${specifier}';` })).toEqual([expect.stringContaining(`${file}:1 imports '${specifier}'`)]);
    expect(problems({ [file]: `import type { A } from '${specifier}';` })).toHaveLength(1);
  });

  test.each([
    ['packages/cpu/src/a.ts', '@heed/core'],
    ['packages/cpu/src/a.ts', '@heed/runtime-wasm'],
    ['packages/without-a-row/src/a.ts', '@heed/core'],
    ['packages/sparse/src/a.ts', '@heed/runtime-webgpu'],
    ['packages/conformance/src/a.ts', '@heed/core/reference'],
    ['packages/conformance/src/a.ts', 'node:fs'],
    ['packages/runtime-wasm/src/threads/pool.ts', 'node:worker_threads'],
    ['packages/core/src/expression/print.ts', '../errors.ts'],
  ])('%s may import %s', (file, specifier) => {
    expect(problems({ [file]: `import '${specifier}';` })).toEqual([]);
  });
});

describe('inside core', () => {
  test('only the reference imports the reference', () => {
    expect(problems({ 'packages/core/src/dispatch.ts': `import { a } from './reference/index.ts';` })).toEqual([expect.stringContaining('core does not import its reference')]);
    expect(problems({ 'packages/core/src/reference/a.ts': `import { b } from './b.ts'; import { c } from '../tensor.ts';` })).toEqual([]);
  });
});

describe('circles among folders', () => {
  test('two folders that import each other are one circle, named once with both places', () => {
    const found = problems({
      'packages/cpu/src/emit/prefill.ts': `import { a } from '../plan/tiles.ts';`,
      'packages/cpu/src/plan/tiles.ts': `\nimport { b } from '../emit/prefill.ts';`,
    });
    expect(found).toHaveLength(1);
    expect(found[0]).toContain('packages/cpu/src/emit/prefill.ts:1');
    expect(found[0]).toContain('packages/cpu/src/plan/tiles.ts:2');
  });

  test('a circle through a file in src counts, and so does one of three folders and one of types', () => {
    expect(problems({ 'packages/cpu/src/kernel.ts': `import './emit/a.ts';`, 'packages/cpu/src/emit/a.ts': `import '../kernel.ts';` })).toHaveLength(1);
    expect(
      problems({
        'packages/cpu/src/a/x.ts': `import '../b/x.ts';`,
        'packages/cpu/src/b/x.ts': `import '../c/x.ts';`,
        'packages/cpu/src/c/x.ts': `import type { A } from '../a/x.ts';`,
      }),
    ).toHaveLength(1);
  });

  test('files of one folder, files directly in src and their types may name each other', () => {
    expect(problems({ 'packages/cpu/src/emit/a.ts': `import './b.ts';`, 'packages/cpu/src/emit/b.ts': `import './a.ts';` })).toEqual([]);
    expect(problems({ 'packages/core/src/tensor.ts': `import type { R } from './backend.ts';`, 'packages/core/src/backend.ts': `import type { T } from './tensor.ts';` })).toEqual([]);
    expect(problems({ 'packages/core/src/index.ts': `export { a } from './stages/a.ts';`, 'packages/core/src/stages/a.ts': `import type { T } from '../index.ts';` })).toEqual([]);
  });
});
