import type { FastWeightStep } from '@heed/core';
import type { LinearPlan } from '../../plan.ts';

/**
 * What a token does to the state and what it reads from it, with all steps of its rule, in any order, brought to one form:
 *
 *     p = Gᵀb      G ← d ⊙ G − a pᵀ + c vᵀ      output = Gᵀu − σ p + τ v,   G on the right as it was before the token
 *
 * V is a vector of the state's width, S a number. Null: not there (d of ones, the others of zeros).
 */
export interface TokenForm<V, S> {
  readonly decay: V | null;
  readonly recall: V | null;
  readonly remove: V | null;
  readonly write: V;
  readonly read: V;
  readonly sigma: S | null;
  readonly tau: S | null;
}

/** What the form is computed with: code for one token, forward, or forward and back. */
export interface TokenAlgebra<V, S> {
  readonly query: () => V;
  readonly key: () => V;
  /** exp(logDecay) on every channel. */
  readonly decay: () => V;
  readonly recall: (step: Extract<FastWeightStep, { step: 'recall' }>) => V;
  /** What is removed along, times its strength. */
  readonly remove: (step: Extract<FastWeightStep, { step: 'remove' }>) => V;
  readonly strength: () => S;
  readonly times: (x: V, y: V) => V;
  readonly scaled: (x: V, factor: S) => V;
  readonly dot: (x: V, y: V) => S;
  /** x − factor · y */
  readonly without: (x: V, factor: S, y: V) => V;
}

/** The steps of a rule, in their order. */
export function tokenForm<V, S>({ rule, recall: removes }: Pick<LinearPlan, 'rule' | 'recall'>, algebra: TokenAlgebra<V, S>): TokenForm<V, S> {
  let [decay, recall, remove, write, read]: [V | null, V | null, V | null, V | null, V | null] = [null, null, null, null, null];
  let [rho, sigma, tau]: [S | null, S | null, S | null] = [null, null, null];
  // What is removed, as long as nothing decayed it: a delta rule writes it.
  let fresh: V | null = null;
  for (const step of rule.steps) {
    switch (step.step) {
      case 'decay': {
        const own = algebra.decay();
        decay = own;
        if (remove !== null) remove = algebra.times(remove, own);
        if (write !== null) write = algebra.times(write, own);
        fresh = null;
        break;
      }
      case 'recall': {
        const by = algebra.recall(step);
        if (write !== null) rho = algebra.dot(write, by);
        recall = decay === null ? by : algebra.times(by, decay);
        break;
      }
      case 'remove': {
        const along = algebra.remove(step);
        remove = along;
        if (removes?.isDelta === true) fresh = along;
        if (write !== null && rho !== null) write = algebra.without(write, rho, along);
        break;
      }
      case 'write':
        write = fresh ?? (step.strength === null ? algebra.key() : algebra.scaled(algebra.key(), algebra.strength()));
        break;
      case 'read': {
        const query = algebra.query();
        if (remove !== null) sigma = algebra.dot(remove, query);
        if (write !== null) tau = algebra.dot(write, query);
        read = decay === null ? query : algebra.times(query, decay);
      }
    }
  }
  if (write === null || read === null) throw new RangeError('a rule writes and reads');
  return { decay, recall, remove, write, read, sigma, tau };
}
