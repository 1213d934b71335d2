import { spawnSync } from 'node:child_process';
import { delimiter, join } from 'node:path';

export interface Finished {
  readonly status: number;
  /** Standard output and error, in that order. */
  readonly output: string;
}

/** Where the tools that the checks depend on are installed. */
const tools = join(import.meta.dirname, '../node_modules/.bin');

/** A program that takes longer hangs. */
const patience = 120_000;

/**
 * Runs a program to its end, or for two minutes. The checks' own tools come first on the PATH.
 *
 * A shell finds the `.cmd` files that package managers write on Windows; arguments are our own and hold no spaces there.
 */
export function run(program: string, args: readonly string[], folder: string, environment: Readonly<Record<string, string>> = {}): Finished {
  const path = `${tools}${delimiter}${process.env.PATH ?? ''}`;
  const { status, stdout, stderr, error } = spawnSync(program, args, {
    cwd: folder,
    encoding: 'utf8',
    env: { ...process.env, ...environment, PATH: path },
    shell: process.platform === 'win32',
    timeout: patience,
    killSignal: 'SIGKILL',
    maxBuffer: 64 * 1024 * 1024,
  });
  return { status: status ?? 1, output: error === undefined ? stdout + stderr : error.message };
}
