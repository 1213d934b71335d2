import { join } from 'node:path';
import { conclude, type Finding } from './counts.ts';
import { run, type Finished } from './process.ts';
import { runIn } from './runtimes.ts';

/** Whether processes that use the CPU backend end when they should, in Node from source and in other runtimes as built. */

/** Between the last thing a program does and its end. A process that something keeps alive stays for ever. */
const soon = 1000;

const folder = process.cwd();
const programs = ['undisposed', 'disposed', 'pending'] as const;

const runtimes: Readonly<Record<string, (file: string) => Finished>> = {
  Node: (file) => run('node', ['--conditions=@heed/source', file], folder),
  Deno: (file) => runIn('deno', file, [], folder),
  Bun: (file) => runIn('bun', file, [], folder),
};

function problemsOf(start: (file: string) => Finished, program: (typeof programs)[number]): readonly string[] {
  const { status, output } = start(join(import.meta.dirname, '../processes', `${program}.ts`));
  const end = Date.now();
  const [, over] = /^over at (\d+)$/m.exec(output) ?? [];
  if (status !== 0 || over === undefined) return [`ended with ${status} before it was over:\n${output}`];
  if (end - Number(over) > soon) return [`ended ${end - Number(over)} ms after it was over`];
  return program === 'pending' && !/^called at \d+\nover at/m.test(output) ? [`the call was not pending:\n${output}`] : [];
}

const findings: readonly Finding[] = Object.entries(runtimes).flatMap(([name, start]) =>
  programs.map((program) => ({ check: `${program} in ${name}`, problems: problemsOf(start, program) })),
);
conclude(folder, 'shutdown', findings);
