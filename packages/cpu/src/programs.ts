import type { AttentionRequest } from '@heed/core';
import { partialRequestOf } from '@heed/core/compute';
import type { Program, WasmRuntime } from '@heed/runtime-wasm';
import { CallWriter } from './call.ts';
import { emitProgram } from './emit/program.ts';
import { layoutsOf } from './layouts.ts';
import { partialPlanOf, partsPlanOf, type Plan, type Purpose } from './plan.ts';
import type { Preparation } from './preparation.ts';

/** A program with what it was made from. */
export interface Loaded {
  readonly request: AttentionRequest;
  readonly plan: Plan;
  readonly program: Program;
  readonly writer: CallWriter;
}

/** Writers of all kernels of a backend: equal programs read equal records. */
export type Writers = WeakMap<Program, CallWriter>;

/**
 * The programs of one kernel. Those that any call may need are there from the start. The others are emitted and compiled by the first call that needs them,
 * since each costs some milliseconds and many kernels never do: one that only decodes transforms no keys alone, one that encodes never decodes.
 */
export class Programs {
  readonly blocks: Loaded;
  /** The pass over rows that are looked at; null when none was asked for. */
  readonly observing: Loaded | null;
  /** Of calls that `partsOfCall` splits. */
  readonly partsPlan: Plan;
  readonly #runtime: WasmRuntime;
  readonly #writers: Writers;
  #parts: Loaded | undefined;
  #keys: Loaded | undefined;
  #partial: Loaded | undefined;

  constructor(runtime: WasmRuntime, request: AttentionRequest, { plan, observing }: Pick<Preparation, 'plan' | 'observing'>, writers: Writers) {
    this.#runtime = runtime;
    this.#writers = writers;
    this.partsPlan = partsPlanOf(plan);
    this.blocks = this.#load('blocks', request, plan);
    this.observing = observing === null ? null : this.#load('blocks', request, observing);
  }

  /** For calls that `plan.readsInPlace` lets through. */
  get parts(): Loaded {
    return (this.#parts ??= this.#load('parts', this.blocks.request, this.partsPlan));
  }

  get keys(): Loaded {
    return (this.#keys ??= this.#load('keys', this.blocks.request, this.blocks.plan));
  }

  /** Whole calls that end before what is applied once at the end (L13). */
  get partial(): Loaded {
    if (this.#partial !== undefined) return this.#partial;
    const request = partialRequestOf(this.blocks.request);
    this.#partial = this.#load('blocks', request, partialPlanOf(request, this.#runtime.machine));
    return this.#partial;
  }

  /** The readable listings of all that calls with a whole result use. */
  text(): Readonly<Record<string, string>> {
    return {
      attention: this.blocks.program.text(),
      ...(this.blocks.plan.readsInPlace ? { decode: this.parts.program.text() } : {}),
      transformKeys: this.keys.program.text(),
    };
  }

  release(): void {
    for (const loaded of [this.blocks, this.observing, this.#parts, this.#keys, this.#partial]) if (loaded) this.#runtime.releaseProgram(loaded.program);
  }

  #load(purpose: Purpose, request: AttentionRequest, plan: Plan): Loaded {
    const layouts = layoutsOf(request, plan);
    const program = this.#runtime.program(programKey(purpose, request, plan), functionsOf(purpose, plan), () => emitProgram(purpose, request, plan, layouts));
    const writer = this.#writers.get(program) ?? new CallWriter(plan, layouts, program.functions);
    this.#writers.set(program, writer);
    return { request, plan, program, writer };
  }
}

function functionsOf(purpose: Purpose, { path }: Plan): readonly string[] {
  if (purpose === 'parts') return ['decode', 'mergeParts'];
  if (purpose === 'keys') return ['transformKeys'];
  return ['pack', path === 'online' ? 'prefill' : 'rows'];
}

/** Everything that the emitted code depends on. */
function programKey(purpose: Purpose, { variant, queryDim, keyDim, valueDim }: AttentionRequest, plan: Plan): string {
  return JSON.stringify([purpose, variant.structure, queryDim, keyDim, valueDim, plan]);
}
