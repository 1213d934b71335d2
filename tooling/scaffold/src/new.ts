import { resolve } from 'node:path';
import { addBackend } from './backend.ts';
import { type Command, readCommand, usage } from './command.ts';
import { namesOf } from './names.ts';
import { writeTables } from './tables.ts';
import { addVariant } from './variant.ts';

const repository = resolve(import.meta.dirname, '../../..');

const nextSteps: Readonly<Record<'variant' | 'backend', string>> = {
  variant: `Now write the formula and its test, then:
  npx -y pnpm@12 tables     puts its description into docs/variants.md
  npx -y pnpm@12 test       judges it on every backend
  npx -y pnpm@12 tables     puts its row into README.md, from the reports of test`,
  backend: `Now:
  npx -y pnpm@12 install    links the package
  npx -y pnpm@12 test       judges it
  npx -y pnpm@12 tables     puts its column into README.md from the report of test`,
};

/** @returns the exit code: 0 when it is done, 1 when it could not be, 2 when it was not understood */
function main(argv: readonly string[]): number {
  let command: Command;
  try {
    command = readCommand(argv);
  } catch (error) {
    console.error(`${messageOf(error)}\n\n${usage}`);
    return 2;
  }
  if (command.kind === 'help') {
    console.log(usage);
    return 0;
  }
  try {
    const root = command.root ?? repository;
    const names = namesOf(command.name);
    const written = command.kind === 'variant' ? [...addVariant(root, names, command.stage), ...writeTables(root)] : addBackend(root, names);
    console.log(`${written.map((path) => `  ${path}`).join('\n')}\n${nextSteps[command.kind]}`);
    return 0;
  } catch (error) {
    console.error(messageOf(error));
    return 1;
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

process.exitCode = main(process.argv.slice(2));
