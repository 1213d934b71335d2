/** Program of a competitor's own process (see own-process.ts): answers one question after the other until nobody listens any more. */
import { isAttentionError } from '@heed/core';
import type { Competitor, Prepared } from './competitor.ts';
import { competitorSources } from './competitors.ts';
import type { Answer, PreparedThere, Question, Started } from './own-process.ts';
import { unpackInputs } from './packed-inputs.ts';

/** The competitor of this process and what it has prepared, by number. */
class Host {
  readonly #prepared = new Map<number, Prepared>();
  #competitor: Competitor | null = null;
  #made = 0;

  async answer(question: Question): Promise<unknown> {
    switch (question.ask) {
      case 'start':
        return this.#start(question);
      case 'limits':
        return (await this.#started().measureLimits?.()) ?? {};
      case 'refuses':
        return this.#started().refuses(question.workload);
      case 'prepare':
        return this.#prepare(question);
      case 'time':
        return time(this.#known(question.prepared), question.calls);
      case 'output':
        return this.#known(question.prepared).output();
      case 'release':
        await this.#known(question.prepared).dispose();
        this.#prepared.delete(question.prepared);
        return null;
      case 'dispose':
        await this.#started().dispose();
        return null;
    }
  }

  async #start({ name, options }: Question & { readonly ask: 'start' }): Promise<Started> {
    const source = competitorSources.find((candidate) => candidate.name === name);
    if (source === undefined) throw new RangeError(`No competitor is called '${name}'.`);
    this.#competitor = await source.start(options);
    const { about, limit } = this.#competitor;
    return { about, limit };
  }

  async #prepare({ workload, inputs }: Question & { readonly ask: 'prepare' }): Promise<PreparedThere> {
    const made = await this.#started().prepare(workload, unpackInputs(inputs));
    this.#prepared.set(++this.#made, made);
    return { prepared: this.#made, compiling: made.compiling };
  }

  #started(): Competitor {
    if (this.#competitor === null) throw new RangeError('Not started.');
    return this.#competitor;
  }

  #known(number: number): Prepared {
    const found = this.#prepared.get(number);
    if (found === undefined) throw new RangeError(`Nothing prepared has the number ${number}.`);
    return found;
  }
}

async function time(one: Prepared, calls: number): Promise<number> {
  const start = performance.now();
  for (let call = 0; call < calls; call++) {
    const pending = one.run();
    if (pending !== undefined) await pending;
  }
  return performance.now() - start;
}

async function answered(host: Host, question: Question): Promise<Answer> {
  try {
    return { result: await host.answer(question) };
  } catch (error) {
    return { error: { code: isAttentionError(error) ? error.code : null, message: error instanceof Error ? error.message : String(error) } };
  }
}

const host = new Host();
process.on('message', (question) => void answered(host, question as Question).then((answer) => process.send?.(answer)));
process.on('disconnect', () => process.exit());
