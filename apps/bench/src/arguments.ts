import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { AttentionError } from '@heed/core';
import { type BenchDtype, benchDtypes } from './dtypes.ts';
import { linearWorkloads } from './linear/workloads.ts';
import { models } from './models.ts';
import { sparseWorkloads } from './sparse/workloads.ts';
import { suites, suiteWorkloads } from './workloads.ts';

/** What the command line asks for. */
export interface Arguments {
  readonly help: boolean;
  readonly suite: string;
  /** Name of a preset; null: none named. */
  readonly model: string | null;
  /** Path of a config.json; replaces `model`. */
  readonly config: string | null;
  /** Path of a safetensors file with query, key and value. */
  readonly tensors: string | null;
  /** Prompt length; null: the model's default. */
  readonly tokens: number | null;
  /** Tokens generated after the prompt; null: the model's default. */
  readonly decode: number | null;
  readonly batch: number;
  /** Parts of ids of workloads: those that have one of them are measured; null: all. */
  readonly only: readonly string[] | null;
  /** Null: what recorded tensors have, else f32. */
  readonly dtype: BenchDtype | null;
  /** Names of backends; null: all that are present. */
  readonly backends: readonly string[] | null;
  /** Names of peers; null: all that are present. */
  readonly peers: readonly string[] | null;
  /** Threads that each may use, the calling one included. */
  readonly threads: number;
  /** Seconds to spend on measuring, all contenders together. */
  readonly seconds: number;
  /** Where the JSON goes besides bench-results; null: nowhere else. */
  readonly json: string | null;
}

const modelSeconds = 20;
const secondsPerSuiteCall = 5;

/** What `--help` prints. */
export function helpText(competitors: readonly { readonly name: string; readonly role: 'backend' | 'peer' }[]): string {
  const [backends, peers] = (['backend', 'peer'] as const).map((role) => competitors.filter((one) => one.role === role).map(({ name }) => name).join(', '));
  return `heed bench: how fast, how exact and how large is attention of a model on this machine, on each backend?

usage: pnpm start [options]

what to measure
  --model <name>       ${models.map((model) => model.name).join(', ')} (default gpt2)
  --config <file>      a config.json as model hubs publish it, instead of --model
  --tensors <file>     real query, key and value from a safetensors file: one call of the model's
                       layer of that shape; causal softmax attention when no model is named
  --suite <name>       ${suites.join(', ')} (default model)
  --only <text>        calls whose id contains the text (default all; may be repeated)
  --tokens <n>         tokens of the prompt
  --decode <n>         tokens generated after it; 0 for none
  --batch <n>          sequences at once (default 1)
  --dtype <type>       ${benchDtypes.join(', ')} (default f32, or that of --tensors)

with what
  --backend <name>     ${backends ?? ''} (default all; may be repeated)
  --peer <name>        ${peers ?? ''} or none (default all; may be repeated)
  --threads <n>        threads that each may use (default all of this machine, ${availableParallelism()})
  --seconds <n>        time to spend on measuring (default ${modelSeconds}; ${secondsPerSuiteCall} for each call of a suite)

results go to bench-results/<time>.json and bench-results/<time>.html
  --json <file>        also writes the JSON there
  --help               prints this
`;
}

/**
 * Reads the command line.
 *
 * @param argv the arguments after the program's name
 * @throws AttentionError `invalid-argument`
 */
export function parseArguments(argv: readonly string[]): Arguments {
  const { values } = read(argv);
  const suite = values.suite ?? 'model';
  const dtype = benchDtypes.find((known) => known === values.dtype) ?? null;
  if (dtype === null && values.dtype !== undefined) throw invalid('dtype', values.dtype, `one of ${benchDtypes.join(', ')}`);
  if (!suites.includes(suite)) throw invalid('suite', suite, `one of ${suites.join(', ')}`);
  if (values.model !== undefined && values.config !== undefined) throw new AttentionError('invalid-argument', 'Got --model and --config.', 'Pass one of them.');
  const modelOnly = (['model', 'config', 'tensors', 'tokens', 'decode'] as const).find((name) => values[name] !== undefined);
  if (suite !== 'model' && modelOnly !== undefined) throw new AttentionError('invalid-argument', `Got --${modelOnly} with --suite ${suite}, which is a fixed list.`, `Leave --${modelOnly} or --suite out.`);
  const lengths = (['tokens', 'decode', 'batch'] as const).find((name) => values[name] !== undefined);
  if (values.tensors !== undefined && lengths !== undefined) throw new AttentionError('invalid-argument', `Got --${lengths} with --tensors, whose shapes say it.`, `Leave --${lengths} out.`);
  return {
    help: values.help ?? false,
    suite,
    model: values.model ?? null,
    config: values.config ?? null,
    tensors: values.tensors ?? null,
    tokens: integer('tokens', values.tokens, 1),
    decode: integer('decode', values.decode, 0),
    batch: integer('batch', values.batch, 1) ?? 1,
    dtype,
    only: values.only ?? null,
    backends: values.backend ?? null,
    peers: values.peer === undefined ? null : values.peer.filter((peer) => peer !== 'none'),
    threads: integer('threads', values.threads, 1) ?? availableParallelism(),
    seconds: integer('seconds', values.seconds, 1) ?? (suite === 'model' ? modelSeconds : secondsPerSuiteCall * callsOf(suite)),
    json: values.json ?? null,
  };
}

/** Calls that a suite has. */
function callsOf(suite: string): number {
  if (suite === 'linear') return linearWorkloads.length;
  return suite === 'sparse' ? sparseWorkloads.length + 1 : suiteWorkloads(suite, 1, 'f32').length;
}

const text = { type: 'string' } as const;
const list = { type: 'string', multiple: true } as const;
const options = { help: { type: 'boolean', short: 'h' }, suite: text, model: text, config: text, tensors: text, tokens: text, decode: text, batch: text, only: list, dtype: text, backend: list, peer: list, threads: text, seconds: text, json: text } as const;

/** Not strict, so that what is wrong is said in the bench's words; then nothing is left that a strict reading would refuse. */
function read(argv: readonly string[]): { readonly values: Partial<Values> } {
  // Package managers pass a lone "--" on.
  const args = argv[0] === '--' ? argv.slice(1) : [...argv];
  const { tokens } = parseArgs({ args, options, strict: false, allowPositionals: true, tokens: true });
  const clean = tokens.map((token) => {
    if (token.kind !== 'option') throw refused(`Got '${token.kind === 'positional' ? token.value : '--'}', which belongs to no option.`);
    const known: { readonly type: 'string' | 'boolean' } | undefined = Object.hasOwn(options, token.name) ? options[token.name as keyof typeof options] : undefined;
    if (known === undefined) throw refused(`There is no option '${token.rawName}'.`);
    if (known.type === 'string' && (token.value ?? '') === '') throw refused(`${token.rawName} has no value.`);
    if (known.type === 'boolean' && token.value !== undefined) throw refused(`${token.rawName} is '${token.value}'; it takes no value.`);
    return token.value === undefined ? `--${token.name}` : `--${token.name}=${token.value}`;
  });
  return parseArgs({ args: clean, options, strict: true });
}

function refused(problem: string): AttentionError {
  return new AttentionError('invalid-argument', problem, 'Run with --help to see every option.');
}

interface Values {
  readonly help: boolean;
  readonly suite: string;
  readonly model: string;
  readonly config: string;
  readonly tensors: string;
  readonly tokens: string;
  readonly decode: string;
  readonly batch: string;
  readonly only: readonly string[];
  readonly dtype: string;
  readonly backend: readonly string[];
  readonly peer: readonly string[];
  readonly threads: string;
  readonly seconds: string;
  readonly json: string;
}

function integer(name: string, text: string | undefined, least: number): number | null {
  if (text === undefined) return null;
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value) || value < least) throw invalid(name, text, `an integer of ${least} or more`);
  return value;
}

function invalid(name: string, got: string | undefined, expected: string): AttentionError {
  return refused(`--${name} is '${got ?? ''}'; expected ${expected}.`);
}
