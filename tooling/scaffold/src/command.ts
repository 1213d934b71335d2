import { parseArgs } from 'node:util';
import { stages } from './variant.ts';

/** What `new` was asked for. */
export type Command =
  | { readonly kind: 'help' }
  | { readonly kind: 'variant'; readonly name: string; readonly stage: string; readonly root: string | undefined }
  | { readonly kind: 'backend'; readonly name: string; readonly root: string | undefined };

const stageNames: readonly string[] = Object.keys(stages);

export const usage: string = `npx -y pnpm@12 new variant [STAGE] NAME     a member of a stage: its file, test, export, and row in the suite
npx -y pnpm@12 new backend NAME             a backend: its package, tests, and lane

  STAGE   ${stageNames.join(', ')} (default modifier); also --stage STAGE after the name
  NAME    lower-case words joined by hyphens, as in my-modifier
`;

/**
 * Reads the command line.
 *
 * @param argv the arguments after the program's name
 * @throws Error that says in one line what is wrong
 */
export function readCommand(argv: readonly string[]): Command {
  const { values, positionals, tokens } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    strict: false,
    tokens: true,
    options: { stage: { type: 'string' }, root: { type: 'string' }, help: { type: 'boolean', short: 'h' } },
  });
  for (const token of tokens) {
    if (token.kind !== 'option') continue;
    if (!['stage', 'root', 'help'].includes(token.name)) throw new Error(`Unknown option '${token.rawName}'.`);
    if (token.name !== 'help' && (token.value ?? '') === '') throw new Error(`${token.rawName} needs a value.`);
  }
  if (values.help !== undefined) return { kind: 'help' };
  const root = textOf(values.root);
  const [kind, ...words] = positionals;
  if (kind !== 'variant' && kind !== 'backend') throw new Error(kind === undefined ? 'Say what to add: variant or backend.' : `Got '${kind}'. Expected variant or backend.`);
  const name = words.at(-1);
  if (name === undefined) throw new Error(`Say the name of the ${kind}.`);
  const [stage, ...more] = [...words.slice(0, -1), ...[textOf(values.stage) ?? []].flat()];
  if (more.length > 0 || (kind === 'backend' && stage !== undefined)) throw new Error(`Got '${words.join(' ')}'${values.stage === undefined ? '' : ' and --stage'}. Expected ${kind === 'variant' ? 'a stage and a name' : 'a name alone'}.`);
  if (kind === 'backend') return { kind, name, root };
  if (stage !== undefined && !stageNames.includes(stage)) throw new Error(`Got the stage '${stage}'. Expected one of ${stageNames.join(', ')}.`);
  return { kind, name, stage: stage ?? 'modifier', root };
}

function textOf(value: string | boolean | undefined): string | undefined {
  return typeof value === 'string' ? value : undefined;
}
