import { writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { toMutantTable } from './mutants/table.ts';
import { runMutants } from './mutants/run-mutants.ts';
import { failureText, toJUnit, toPlan, toTable } from './report.ts';
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
    output.write(`${error instanceof Error ? error.message : String(error)}\n\n${usage}`);
    return 2;
  }
  if (given.help) {
    output.write(usage);
    return 0;
  }
  if (given.list) {
    const cases = selectCases(given.options);
    output.write(`${toPlan(cases)}\n${cases.length} cases\n`);
    return 0;
  }
  if (given.mutants) return showMutants(output);
  if (given.module === undefined) {
    output.write(usage);
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

function readArguments(argv: readonly string[]): Arguments {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      list: { type: 'boolean', default: false },
      filter: { type: 'string', multiple: true, default: [] },
      examples: { type: 'string', default: '60' },
      seed: { type: 'string', default: '1' },
      'no-refusals': { type: 'boolean', default: false },
      json: { type: 'string' },
      junit: { type: 'string' },
      mutants: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  const [module, extra] = positionals;
  if (extra !== undefined) throw new Error(`Got a second module '${extra}'.`);
  return {
    module,
    list: values.list,
    mutants: values.mutants,
    help: values.help,
    json: values.json,
    junit: values.junit,
    options: {
      filters: values.filter,
      examples: values.examples === 'all' ? 'all' : wholeNumber('--examples', values.examples),
      seed: wholeNumber('--seed', values.seed),
      refusals: values['no-refusals'] ? 'forbidden' : 'allowed',
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
  const report = await runSuite(createBackend, {
    ...given.options,
    onCase: (testCase, index, count) => {
      if (output.terminal) output.write(`${clear}${index + 1}/${count} ${testCase.id}`.slice(0, 110));
      else if (index % 100 === 0) output.write(`${index}/${count}\n`);
    },
    onResult: (result) => {
      if (!result.passed) output.write(`${clear}${failureText(result)}\n`);
    },
  });
  if (given.json !== undefined) await writeFile(given.json, `${JSON.stringify(report, null, 2)}\n`);
  if (given.junit !== undefined) await writeFile(given.junit, toJUnit(report));
  output.write(`${clear}${toTable(report)}\n`);
  if (report.passed + report.failed === 0) {
    output.write('No case matches the filter.\n');
    return 2;
  }
  if (report.refused > 0) output.write(`${report.refused} of the passed tested a refusal\n`);
  output.write(`${report.passed} passed, ${report.failed} failed\n`);
  return report.failed === 0 ? 0 : 1;
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
