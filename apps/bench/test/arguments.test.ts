import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { isAttentionError } from '@heed/core';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { helpText, parseArguments } from '../src/arguments.ts';
import { plannedWork } from '../src/plan.ts';
import { suiteWorkloads } from '../src/workloads.ts';

function codeOf(argv: readonly string[]): string {
  try {
    parseArguments(argv);
  } catch (error) {
    if (isAttentionError(error)) return error.code;
    throw error;
  }
  return 'none';
}

describe('the command line', () => {
  test('asks for the default model on everything when it says nothing', () => {
    expect(parseArguments([])).toMatchObject({ help: false, suite: 'model', model: null, tokens: null, decode: null, batch: 1, dtype: null, backends: null, peers: null, json: null });
  });

  test('is read with and without the lone -- that package managers pass on', () => {
    const argv = ['--model', 'llama-3.2-1b', '--tokens', '512', '--decode', '0', '--dtype', 'bf16', '--backend', 'reference', '--backend', 'cpu', '--peer', 'none', '--json', 'f.json'];
    const asked = parseArguments(argv);
    expect(asked).toMatchObject({ model: 'llama-3.2-1b', tokens: 512, decode: 0, dtype: 'bf16', backends: ['reference', 'cpu'], peers: [], json: 'f.json' });
    expect(parseArguments(['--', ...argv])).toEqual(asked);
  });

  const refused: readonly (readonly string[])[] = [
    ['--tokens', '0'],
    ['--tokens', '-5'],
    ['--tokens', '1e3'],
    ['--tokens', 'many'],
    ['--batch', '1.5'],
    ['--dtype', 'f64'],
    ['--suite', 'nothing'],
    ['--nothing'],
    ['gpt2'],
    ['--model', 'gpt2', '--config', 'config.json'],
    ['--suite', 'cpu', '--tokens', '5'],
    ['--tensors', 'f.safetensors', '--tokens', '5'],
  ];
  test.each(refused.map((argv) => [argv.join(' '), argv] as const))('refuses %s', (_, argv) => {
    expect(codeOf(argv)).toBe('invalid-argument');
  });

  test.each([
    [['--tokens', '-3'], "--tokens is '-3'; expected an integer of 1 or more."],
    [['--nothing'], "There is no option '--nothing'."],
    [['gpt2'], "Got 'gpt2', which belongs to no option."],
    [['--model'], '--model has no value.'],
    [['--help=yes'], "--help is 'yes'; it takes no value."],
  ])('says in its own words what is wrong with %j', (argv, message) => {
    expect(() => parseArguments(argv)).toThrow(new RegExp(`^${message.replaceAll('.', '\\.')} Run with --help to see every option\\.$`));
  });

  test('is read or refused with a typed error, whatever it holds', () => {
    const word = fc.oneof(fc.string(), fc.constantFrom('--model', '--tokens', '--suite', '--', '-h', '--json', '7'));
    fc.assert(fc.property(fc.array(word, { maxLength: 5 }), (argv) => { expect(['none', 'invalid-argument']).toContain(codeOf(argv)); }));
  });

  test('has help for every option', () => {
    const text = helpText([{ name: 'reference', role: 'backend' }, { name: 'plain-js', role: 'peer' }]);
    for (const option of ['model', 'config', 'tensors', 'suite', 'tokens', 'decode', 'batch', 'dtype', 'backend', 'peer', 'only', 'threads', 'seconds', 'json', 'help']) expect(text).toContain(`--${option}`);
  });
});

test('a suite is given time in proportion to its calls, a model a fixed time, and either what was asked', () => {
  const calls = suiteWorkloads('cpu', 1, 'f32').length;
  expect(parseArguments(['--suite', 'cpu']).seconds / calls).toBeGreaterThanOrEqual(1);
  expect(parseArguments(['--suite', 'cpu', '--seconds', '7']).seconds).toBe(7);
  expect(parseArguments([]).threads).toBe(availableParallelism());
  expect(parseArguments(['--threads', '1', '--only', 'a', '--only', 'b'])).toMatchObject({ threads: 1, only: ['a', 'b'] });
});

test('only the calls whose id has the text are planned, and a text that none has is refused', async () => {
  const { workloads } = await plannedWork(parseArguments(['--suite', 'cpu', '--only', 'decode?', '--only', 'small?']));
  expect(workloads.map(({ id }) => id.split('?')[0])).toEqual(['decode', 'small']);
  await expect(plannedWork(parseArguments(['--suite', 'cpu', '--only', 'nothing']))).rejects.toThrow(/--only/);
});

test('what is wrong with recorded tensors is said with the path of their file, once', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'heed-bench-'));
  try {
    const path = join(folder, 'short.safetensors');
    await writeFile(path, 'abc');
    await expect(plannedWork(parseArguments(['--tensors', path]))).rejects.toThrow(`${path}: Not a safetensors file. The file ends after 3 bytes`);
    const absent = join(folder, 'absent.safetensors');
    await expect(plannedWork(parseArguments(['--tensors', absent]))).rejects.toThrow(new RegExp(`^(?:(?!absent).)*absent\\.safetensors(?:(?!absent).)*$`));
  } finally {
    await rm(folder, { recursive: true });
  }
});
