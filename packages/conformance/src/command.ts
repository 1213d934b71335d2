import { writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { toMutantTable } from './mutants/table.ts';
import { runMutants } from './mutants/run-mutants.ts';
import { toJUnit, toPlan, toTable } from './report.ts';
import type { SuiteOptions } from './suite.ts';
import { runSuite, selectCases } from './suite.ts';
import type { CreateBackend } from './test-bench.ts';

/** Where the command writes, and whether a person watches. */
export interface Output {
  readonly write: (text: string) => unknown;
  /** A terminal gets a progress line that is written over. */
  readonly terminal: boolean;
}

const usage = `heed-conformance ./backend.js [options]

  The module exports createBackend (by name or as default): () => Backend | Promise<Backend>.

  --list              print the plan of the selected cases and run nothing
  --filter <prefix>   only cases whose id begins so, or a law such as L4; may be given several times
  --examples <n|all>  how many examples (default 60)
  --seed <n>          which sample of the examples (default 1)
  --no-refusals       a variant that the backend refuses fails, unless a declared capability is missing
  --json <file>       write the report as JSON
  --junit <file>      write the report as JUnit XML
  --mutants           test the suite itself: run it on backends that are wrong on purpose
  --help              print this
`;

interface Arguments {
  readonly module: string | undefined;
  readonly list: boolean;
  readonly mutants: boolean;
  readonly help: boolean;
  readonly json: string | undefined;
  readonly junit: string | undefined;
  readonly options: SuiteOptions;
}

/**
 * The command as a function.
 *
 * @returns the exit code: 0 when everything passed, 1 when something failed, 2 when it could not start
 */
export async function runCommand(argv: readonly string[], output: Output): Promise<number> {
  let given: Arguments;
  try {
    given = readArguments(argv);
  } catch (error) {
    output.write(`${error instanceof Error ? error.message : String(error)} --help lists the options.\n`);
    return 2;
  }
  if (given.help) {
    output.write(usage);
    return 0;
  }
  if (given.list) {
    const cases = selectCases(given.options);
    if (cases.length === 0) return sayNoCase(output);
    output.write(`${toPlan(cases)}\n${cases.length} cases\n`);
    return 0;
  }
  if (given.mutants) return showMutants(output);
  if (given.module === undefined) {
    output.write(`Got no module. Say which backend to judge, as in heed-conformance ./backend.js\n\n${usage}`);
    return 2;
  }
  let createBackend: CreateBackend;
  try {
    createBackend = await loadBackend(given.module);
  } catch (error) {
    output.write(`Cannot load ${given.module}: ${error instanceof Error ? error.message : String(error)}\n`);
    return 2;
  }
  return judge(createBackend, given, output);
}

const optionTypes = {
  list: { type: 'boolean' },
  filter: { type: 'string', multiple: true },
  examples: { type: 'string' },
  seed: { type: 'string' },
  'no-refusals': { type: 'boolean' },
  json: { type: 'string' },
  junit: { type: 'string' },
  mutants: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
} as const;

function readArguments(argv: readonly string[]): Arguments {
  // Not strict, so that what is wrong is said in our words, the same in every runtime.
  const { tokens, positionals } = parseArgs({ args: [...argv], allowPositionals: true, strict: false, tokens: true, options: optionTypes });
  const types: Readonly<Record<string, { readonly type: 'boolean' | 'string' }>> = optionTypes;
  const given: Record<string, readonly string[]> = {};
  for (const token of tokens) {
    if (token.kind !== 'option') continue;
    const option = types[token.name];
    if (option === undefined) throw new Error(`Unknown option '${token.rawName}'.`);
    if (option.type === 'string' && (token.value ?? '') === '') throw new Error(`${token.rawName} needs a value.`);
    if (option.type === 'boolean' && token.value !== undefined) throw new Error(`${token.rawName} takes no value; got '${token.value}'.`);
    given[token.name] = [...(given[token.name] ?? []), token.value ?? ''];
  }
  const has = (name: keyof typeof optionTypes): boolean => name in given;
  const last = (name: keyof typeof optionTypes): string | undefined => given[name]?.at(-1);
  const [module, extra] = positionals;
  if (extra !== undefined) throw new Error(`Got a second module '${extra}'.`);
  const examples = last('examples') ?? '60';
  return {
    module,
    list: has('list'),
    mutants: has('mutants'),
    help: has('help'),
    json: last('json'),
    junit: last('junit'),
    options: {
      filters: given['filter'] ?? [],
      examples: examples === 'all' ? 'all' : wholeNumber('--examples', examples),
      seed: wholeNumber('--seed', last('seed') ?? '1'),
      refusals: has('no-refusals') ? 'forbidden' : 'allowed',
    },
  };
}

function wholeNumber(name: string, text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0) throw new Error(`${name} got '${text}'; expected a whole number of 0 or more.`);
  return value;
}

async function loadBackend(path: string): Promise<CreateBackend> {
  const module = (await import(pathToFileURL(resolve(path)).href)) as Readonly<Record<string, unknown>>;
  const fallback = module['default'];
  const found: unknown = module['createBackend'] ?? (typeof fallback === 'object' && fallback !== null ? Reflect.get(fallback, 'createBackend') : fallback);
  if (typeof found !== 'function') throw new Error('it exports no createBackend, by name or as default.');
  return found as CreateBackend;
}

async function judge(createBackend: CreateBackend, given: Arguments, output: Output): Promise<number> {
  const clear = output.terminal ? '\r\u001b[2K' : '';
  let failures = 0;
  const report = await runSuite(createBackend, {
    ...given.options,
    onCase: (testCase, index, count) => {
      const failed = failures === 0 ? '' : ` (${failures} failed)`;
      if (output.terminal) output.write(`${clear}${index + 1}/${count}${failed} ${testCase.id}`.slice(0, 110));
      else if (index % 100 === 0) output.write(`${index}/${count}${failed}\n`);
    },
    onResult: (result) => {
      if (!result.passed) failures += 1;
    },
  });
  if (given.json !== undefined) await writeFile(given.json, `${JSON.stringify(report, null, 2)}\n`);
  if (given.junit !== undefined) await writeFile(given.junit, toJUnit(report));
  output.write(clear);
  if (report.passed + report.failed === 0) return sayNoCase(output);
  output.write(`${toTable(report)}\n`);
  if (report.refused > 0) output.write(`${report.refused} of the passed tested a refusal\n`);
  output.write(`${report.passed} passed, ${report.failed} failed\n`);
  return report.failed === 0 ? 0 : 1;
}

function sayNoCase(output: Output): number {
  output.write('No case matches the filter.\n');
  return 2;
}

async function showMutants(output: Output): Promise<number> {
  const clear = output.terminal ? '\r\u001b[2K' : '';
  const results = await runMutants({
    onMutant: (mutant, index, count) => {
      if (output.terminal) output.write(`${clear}${index + 1}/${count} ${mutant.name}`);
    },
  });
  const right = results.filter((result) => result.problems.length === 0).length;
  output.write(`${clear}${toMutantTable(results)}\n${right} passed, ${results.length - right} failed\n`);
  return right === results.length ? 0 : 1;
}
