import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { runCommand } from '../src/command.ts';

let folder = '';
const file = (name: string): string => join(folder, name);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'heed-conformance-'));
  const reference = JSON.stringify(new URL('../../core/src/reference/index.ts', import.meta.url).href);
  await writeFile(file('good.mjs'), `export { createReferenceBackend as createBackend } from ${reference};\n`);
  await writeFile(file('default.mjs'), `import { createReferenceBackend } from ${reference};\nexport default { createBackend: createReferenceBackend };\n`);
  await writeFile(file('bad.mjs'), `import { createReferenceBackend } from ${reference};\nexport function createBackend() {\n  const right = createReferenceBackend();\n  return Object.assign(Object.create(right), { prepare: async (request) => {\n    const kernel = await right.prepare(request);\n    return Object.assign(Object.create(kernel), { run: async (inputs) => { const outputs = await kernel.run(inputs); outputs.output.view().fill(0); return outputs; } });\n  }, assess: (request, shape) => right.assess(request, shape), dispose: () => right.dispose() });\n}\n`);
  await writeFile(file('scaled.mjs'), `import { createReferenceBackend } from ${reference};\nexport function createBackend() {\n  const right = createReferenceBackend();\n  return Object.assign(Object.create(right), { prepare: async (request) => {\n    const kernel = await right.prepare(request);\n    return Object.assign(Object.create(kernel), { run: async (inputs) => { const outputs = await kernel.run(inputs); const values = outputs.output.view(); values.forEach((value, index) => { values[index] = value * 1.01; }); return outputs; }, dispose: () => kernel.dispose() });\n  }, assess: (request, shape) => right.assess(request, shape), dispose: () => right.dispose() });\n}\n`);
  await writeFile(file('empty.mjs'), 'export const nothing = 1;\n');
});

afterAll(() => rm(folder, { recursive: true }));

async function command(...argv: readonly string[]): Promise<{ readonly code: number; readonly text: string }> {
  let text = '';
  const code = await runCommand(argv, { write: (part) => (text += part), terminal: false });
  return { code, text };
}

test('a right backend: exit code 0, a table, the counts in the last line', async () => {
  const { code, text } = await command(file('good.mjs'), '--filter', 'golden/row', '--examples', '0');
  expect(code).toBe(0);
  expect(text.trimEnd().split('\n').at(-1)).toMatch(/^\d+ passed, 0 failed$/);
});

test('createBackend may be on the default export', async () => {
  expect((await command(file('default.mjs'), '--filter', 'golden/row', '--examples', '0')).code).toBe(0);
});

test('a wrong backend: exit code 1, the failed cases by id with what was got and expected', async () => {
  const { code, text } = await command(file('bad.mjs'), '--filter', 'golden/row', '--examples', '0', '--json', file('report.json'), '--junit', file('report.xml'));
  expect(code).toBe(1);
  expect(text).toContain('FAILED golden/row?normalization=softmax');
  expect(text).toContain('expected 0.489462');
  expect(text.trimEnd().split('\n').at(-1)).toMatch(/^\d+ passed, [1-9]\d* failed$/);
  const report = JSON.parse(await readFile(file('report.json'), 'utf8')) as { schema: number; failed: number; cases: Record<string, { passed: boolean; worst: { absolute: number } }> };
  expect(report.schema).toBe(1);
  expect(report.cases['golden/row?normalization=softmax']).toMatchObject({ passed: false, area: 'golden', kind: 'law' });
  expect(report.cases['golden/row?normalization=softmax']?.worst.absolute).toBeCloseTo(0.489462, 5);
  const junit = await readFile(file('report.xml'), 'utf8');
  expect(junit).toContain(`failures="${report.failed}"`);
  expect(junit).toContain('<testcase classname="golden" name="golden/row?normalization=softmax"');
});

test('--list prints the plan and needs no backend', async () => {
  const { code, text } = await command('--list', '--filter', 'laws/L4-window?left=3,right=0', '--examples', '0');
  expect(code).toBe(0);
  expect(text).toContain('laws/L4-window?left=3,right=0,lq=17,lk=17\n  window({ left: 3, right: 0 }) allows');
  expect(text).toMatch(/laws L4; needs attention; bound float32 attention; seed \d+/);
});

test('--list says the formula of each bound once, after the cases', async () => {
  const { text } = await command('--list', '--filter', 'laws/L4', '--examples', '0');
  expect(text.split('float32 attention: absolute = ')).toHaveLength(2);
  expect(text.indexOf('Bounds\n')).toBeGreaterThan(text.lastIndexOf('seed '));
});

test('--list of a filter without cases cannot start, as a run cannot', async () => {
  expect(await command('--list', '--filter', 'nonsense/', '--examples', '0')).toEqual({ code: 2, text: 'No case matches the filter.\n' });
});

test('each failure stands once, and of many failures only twenty', async () => {
  const { text } = await command(file('scaled.mjs'), '--filter', 'modifiers/', '--examples', '0');
  const shown = text.match(/^FAILED .*$/gm) ?? [];
  expect(new Set(shown).size).toBe(shown.length);
  expect(shown).toHaveLength(20);
  const [, failed] = /, (\d+) failed\n$/.exec(text) ?? [];
  expect(text).toContain(`… and ${Number(failed) - 20} more: see --json\n`);
});

test('a failure says where it is, how far off in percent and how often its bound; the table has the share too', async () => {
  const { text } = await command(file('scaled.mjs'), '--filter', 'modifiers/softcap', '--examples', '0');
  expect(text).toMatch(/output at \[batch \d, head \d, row \d+, channel \d+\] is \S+, expected \S+: 1\.0 % off, \d+ × the bound \S+ \+ \S+ · \|expected\|\./);
  expect(text).toMatch(/worst error +of its bound\n/);
  expect(text).toMatch(/^modifiers .* \d+ ×$/m);
});

test('what all failures have in common is said: one factor', async () => {
  expect((await command(file('scaled.mjs'), '--filter', 'modifiers/softcap', '--examples', '0')).text).toContain('All failures are off by the factor 1.01.\n');
  expect((await command(file('bad.mjs'), '--filter', 'golden/row', '--examples', '0')).text).toContain('All failures are off by the factor 0.\n');
});

test.each([
  [['--frobnicate'], "Unknown option '--frobnicate'. --help lists the options.\n"],
  [['--filter'], '--filter needs a value. --help'],
  [['a.js', '--seed', '-3'], "--seed got '-3'; expected a whole number of 0 or more. --help"],
  [['--list=yes'], "--list takes no value; got 'yes'. --help"],
  [['a.js', 'b.js'], "second module 'b.js'"],
  [['a.js', '--examples', 'some'], "--examples got 'some'"],
  [[], 'Got no module. Say which backend to judge'],
  [['/nowhere.mjs'], 'Cannot load /nowhere.mjs'],
] as const)('%j cannot start: exit code 2 and the reason', async (argv, reason) => {
  const { code, text } = await command(...argv);
  expect(code).toBe(2);
  expect(text).toContain(reason);
});

test('a module without createBackend, and a filter without cases, are said', async () => {
  expect((await command(file('empty.mjs'))).text).toContain('exports no createBackend');
  const { code, text } = await command(file('good.mjs'), '--filter', 'nonsense/', '--examples', '0');
  expect([code, text.includes('No case matches the filter.')]).toEqual([2, true]);
});

test('a terminal gets one line that is written over', async () => {
  let text = '';
  await runCommand([file('good.mjs'), '--filter', 'golden/two-classes', '--examples', '0'], { write: (part) => (text += part), terminal: true });
  expect(text).toContain('\r\u001b[2K2/4 golden/two-classes');
});
