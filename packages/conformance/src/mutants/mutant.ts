import type { Backend } from '@heed/core';
import type { Changes } from './alter.ts';
import { alter } from './alter.ts';

/** A backend that is wrong on purpose. */
export interface Mutant {
  readonly name: string;
  /** What it does wrong. */
  readonly plan: string;
  /** Laws (all cases that test them), or beginnings of case ids: at least one case of each must fail. */
  readonly names: readonly string[];
  /** Laws (the cases named after them), or beginnings of case ids: none of these may fail, so that what fails fails for its own reason. */
  readonly controls: readonly string[];
  /** Made from a right backend, freshly for each run. */
  readonly make: (right: Backend) => Backend;
}

/** A mutant that is changes of a right backend. `changes` is called for each backend, so that counters begin anew. */
export function mutant(definition: Omit<Mutant, 'make'>, changes: () => Changes): Mutant {
  return { ...definition, make: (right) => alter(right, changes()) };
}
