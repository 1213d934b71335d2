/** Compiled modules by key: a structure that was compiled once compiles nothing again. */
import { AttentionError } from '@heed/core';
import type { ModuleBuilder } from './emit/module.ts';
import type { KernelFunction } from './threads/job.ts';
import type { WorkerPool } from './threads/pool.ts';

/** A module on every thread. */
export interface Program<Name extends string = string> {
  readonly key: string;
  readonly functions: Readonly<Record<Name, KernelFunction>>;
  /** Bytes of the binary module. */
  readonly size: number;
  /** The readable listing; emitted again when it is asked for. */
  text(): string;
}

interface Entry {
  readonly program: Program;
  /** Kernels that hold it. */
  users: number;
}

/** Programs that nobody holds are kept up to this number, the latest used ones. */
const idlePrograms = 128;

export class ProgramCache {
  readonly #pool: WorkerPool;
  readonly #entries = new Map<string, Entry>();

  constructor(pool: WorkerPool) {
    this.#pool = pool;
  }

  get size(): number {
    return this.#entries.size;
  }

  /**
   * The program of a key, compiled now if it is new. Hold it until `release`.
   * @param key everything that the emitted code depends on
   * @param names exported functions
   */
  acquire<const Names extends readonly string[]>(key: string, names: Names, emit: () => ModuleBuilder): Program<Names[number]> {
    const known = this.#entries.get(key);
    if (known !== undefined) {
      known.users += 1;
      // Last in the map is latest used.
      this.#entries.delete(key);
      this.#entries.set(key, known);
      return known.program;
    }
    const bytes = emit().bytes();
    const program: Program<Names[number]> = {
      key,
      functions: this.#pool.load(compile(key, bytes), names),
      size: bytes.length,
      text: () => emit().text(),
    };
    this.#entries.set(key, { program, users: 1 });
    this.#evict();
    return program;
  }

  /** Gives back what `acquire` gave; the program stays for the next that asks, while there is room. */
  release({ key }: Program): void {
    const entry = this.#entries.get(key);
    if (entry !== undefined) entry.users -= 1;
    this.#evict();
  }

  clear(): void {
    this.#entries.clear();
  }

  #evict(): void {
    if (!this.#pool.idle) return;
    const idle = [...this.#entries.values()].filter(({ users }) => users <= 0);
    for (const { program } of idle.slice(0, Math.max(0, idle.length - idlePrograms))) {
      this.#entries.delete(program.key);
      this.#pool.unload(Object.values(program.functions));
    }
  }
}

function compile(key: string, bytes: Uint8Array<ArrayBuffer>): WebAssembly.Module {
  try {
    return new WebAssembly.Module(bytes);
  } catch (cause) {
    throw new AttentionError('internal', `The engine refused the code of ${key}: ${String(cause)}.`, 'Please report this, with the variant.', { cause });
  }
}
