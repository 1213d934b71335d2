/**
 * A competitor in a process of its own, because it changes the process that it runs in: flags of the engine hold for everything compiled
 * there. Calls are timed over there, so what the way costs does not count.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { AttentionError, type ErrorCode } from '@heed/core';
import type { Competitor, Compiling, Prepared } from './competitor.ts';
import type { CompetitorSource, StartOptions } from './competitors.ts';
import type { Inputs } from './inputs.ts';
import type { Limits } from './limits.ts';
import { type PackedInputs, packInputs } from './packed-inputs.ts';
import type { Workload } from './workloads.ts';

/** What the other process is asked. */
export type Question =
  | { readonly ask: 'start'; readonly name: string; readonly options: StartOptions }
  | { readonly ask: 'limits' }
  | { readonly ask: 'refuses'; readonly workload: Workload }
  | { readonly ask: 'prepare'; readonly workload: Workload; readonly inputs: PackedInputs }
  | { readonly ask: 'time'; readonly prepared: number; readonly calls: number }
  | { readonly ask: 'output'; readonly prepared: number }
  | { readonly ask: 'release'; readonly prepared: number }
  | { readonly ask: 'dispose' };

/** What it answers: a result whose type the question tells, or an error. */
export type Answer = { readonly result: unknown } | { readonly error: { readonly code: ErrorCode | null; readonly message: string } };

/** What `start` answers. */
export type Started = Pick<Competitor, 'about' | 'limit'>;

/** What `prepare` answers. */
export interface PreparedThere {
  readonly prepared: number;
  readonly compiling: Compiling | undefined;
}

const program = fileURLToPath(new URL('own-process-program.ts', import.meta.url));

/** Starts the source in a process of its own. */
export async function inOwnProcess({ name, role }: CompetitorSource, options: StartOptions): Promise<Competitor> {
  const line = new Line(fork(program, { serialization: 'advanced', execArgv: ['--conditions=@heed/source'] }));
  try {
    const { about, limit } = (await line.ask({ ask: 'start', name, options })) as Started;
    return {
      name,
      role,
      about: `${about} In a process of its own.`,
      limit,
      measureLimits: async () => (await line.ask({ ask: 'limits' })) as Limits,
      refuses: async (workload) => (await line.ask({ ask: 'refuses', workload })) as string | null,
      prepare: async (workload, inputs) => prepare(line, workload, inputs),
      dispose: async () => {
        await line.ask({ ask: 'dispose' });
        line.close();
      },
    };
  } catch (error) {
    line.close();
    throw error;
  }
}

async function prepare(line: Line, workload: Workload, inputs: Inputs): Promise<Prepared> {
  const { prepared, compiling } = (await line.ask({ ask: 'prepare', workload, inputs: packInputs(inputs) })) as PreparedThere;
  const time = async (calls: number): Promise<number> => (await line.ask({ ask: 'time', prepared, calls })) as number;
  return {
    run: async () => {
      await time(1);
    },
    time,
    ...(compiling === undefined ? {} : { compiling }),
    output: async () => (await line.ask({ ask: 'output', prepared })) as Float64Array,
    dispose: async () => {
      await line.ask({ ask: 'release', prepared });
    },
  };
}

/** Questions and answers, one at a time, in order. */
class Line {
  readonly #child: ChildProcess;
  #last: Promise<unknown> = Promise.resolve();

  constructor(child: ChildProcess) {
    this.#child = child;
  }

  async ask(question: Question): Promise<unknown> {
    const answer = this.#last.then(async () => this.#exchange(question));
    this.#last = answer.catch(() => undefined);
    return answer;
  }

  async #exchange(question: Question): Promise<unknown> {
    const answer = await new Promise<Answer>((resolve, reject) => {
      const ended = (): void => {
        reject(new AttentionError('worker-failed', `The process ended while it was asked to ${question.ask}.`, 'Run it alone to see why.'));
      };
      if (!this.#child.connected) {
        ended();
        return;
      }
      this.#child.once('exit', ended);
      this.#child.once('message', (message) => {
        this.#child.off('exit', ended);
        resolve(message as Answer);
      });
      this.#child.send(question);
    });
    if ('result' in answer) return answer.result;
    const { code, message } = answer.error;
    throw code === null ? new Error(message) : new AttentionError(code, message, '');
  }

  close(): void {
    if (this.#child.connected) this.#child.disconnect();
  }
}
