import type { AttentionRequest, AttentionVariant, MergeClass } from '@heed/core';
import type { Binder } from '@heed/core/compute';
import { createBinder, mergeClassOf, unsupported } from '@heed/core/compute';
import type { WasmRuntime } from '@heed/runtime-wasm';
import { assess } from './assess.ts';
import { observingPlanOf, planOf, type Plan } from './plan.ts';

/** What follows from a request alone. */
export interface Preparation {
  readonly binder: Binder;
  readonly plan: Plan;
  /** Of the pass that looks at stages; null when none was asked for. */
  readonly observing: Plan | null;
  readonly mergeClass: MergeClass | null;
}

/** Remembers what follows from requests, by variant and by the rest of them, so that preparing one again takes microseconds. */
export class Preparations {
  readonly #runtime: WasmRuntime;
  readonly #known = new WeakMap<AttentionVariant, Map<string, Preparation>>();

  constructor(runtime: WasmRuntime) {
    this.#runtime = runtime;
  }

  /** @throws AttentionError as `checkRequest`; `unsupported` with every refusal */
  of(request: AttentionRequest): Preparation {
    const key = keyOf(request);
    const found = key === null ? undefined : this.#known.get(request.variant)?.get(key);
    if (found !== undefined) return found;
    const made = this.#make({ ...request });
    if (key === null) return made;
    const known = this.#known.get(request.variant) ?? new Map<string, Preparation>();
    this.#known.set(request.variant, known.set(key, made));
    return made;
  }

  #make(request: AttentionRequest): Preparation {
    const { machine } = this.#runtime;
    const binder = createBinder(request, { runtime: this.#runtime });
    const assessment = assess(request, machine);
    if (!assessment.supported) throw unsupported(assessment.refusals);
    return { binder, plan: planOf(request, machine), observing: observingPlanOf(request, machine), mergeClass: mergeClassOf(request.variant).mergeClass };
  }
}

/** Everything of a request but its variant; null for what cannot be one, which is for the checks to say. */
function keyOf(request: AttentionRequest): string | null {
  try {
    const { variant, ...rest } = request;
    return typeof variant === 'object' ? JSON.stringify(rest) : null;
  } catch {
    return null;
  }
}
