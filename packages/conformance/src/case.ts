import type { Capabilities } from '@heed/core';
import type { CaseContext } from './context.ts';
import { seedOf } from './random.ts';
import type { Tolerance } from './tolerance.ts';

/** Every law of the project, by number and name; the suite has at least one case for each. */
export const laws = {
  L1: 'empty-row',
  L2: 'order',
  L3: 'positions',
  L4: 'window',
  L5: 'logSumExp',
  L6: 'grouped-heads',
  L7: 'sink',
  L8: 'observed-stages',
  L9: 'precision',
  L10: 'masks-select',
  L11: 'empty-axes',
  L12: 'recurrence',
  L13: 'merge',
  L14: 'determinism',
  L15: 'no-leak',
  L16: 'no-position',
  L17: 'edges',
  L18: 'scale',
  L19: 'gradient',
  L20: 'nothing-silent',
} as const;

export type Law = keyof typeof laws;

/** What a case needs of a backend beyond its variant: the name of a capability, with the value that it must list where it is a list. */
export type Need =
  | 'attention'
  | 'fastWeights'
  | 'logSumExp'
  | 'partial'
  | 'blocks'
  | 'edges'
  | 'packed'
  | 'explicitPositions'
  | 'transformKeys'
  | 'keyMass'
  | 'gradients'
  | 'abort'
  | 'nonFinite'
  | 'deterministic'
  | `observe:${Capabilities['observe'][number]}`
  | `dtype:${Capabilities['dtypes'][number]}`
  | `storage:${Capabilities['storage'][number]}`;

/** examples: backend against reference over a covered space. laws: what must hold. lifecycle: disposing, aborting, bad input. */
export type Kind = 'example' | 'law' | 'lifecycle';

export type Parameters = Readonly<Record<string, string | number | boolean>>;

/** One thing that must hold. */
export interface Case {
  /** `area/name?parameter=value,…` */
  readonly id: string;
  readonly area: string;
  readonly kind: Kind;
  /** What is done and what must come out, readable without the code. */
  readonly plan: string;
  readonly laws: readonly Law[];
  /** Where the backend lacks one of these, its refusal is tested instead. */
  readonly needs: readonly Need[];
  readonly tolerance: Tolerance;
  readonly seed: number;
  readonly run: (context: CaseContext) => Promise<void>;
}

export interface CaseOptions {
  /** `area/name`, without parameters. */
  readonly name: string;
  readonly parameters?: Parameters;
  readonly plan: string;
  readonly laws?: readonly Law[];
  /** Default: `attention`. */
  readonly needs?: readonly Need[];
  readonly tolerance: Tolerance;
}

/** A case of an area. Its seed comes from its id, so it does not depend on which other cases there are. */
export function defineCase(options: CaseOptions, run: Case['run']): Case {
  const { name, parameters = {}, plan, laws: tested = [], needs = ['attention'], tolerance } = options;
  const query = Object.entries(parameters).map(([key, value]) => `${key}=${value}`).join(',');
  const id = query === '' ? name : `${name}?${query}`;
  const area = name.split('/')[0] ?? name;
  const kind = area === 'examples' ? 'example' : area === 'lifecycle' || area === 'errors' ? 'lifecycle' : 'law';
  return Object.freeze({ id, area, kind, plan, laws: tested, needs, tolerance, seed: seedOf(id), run });
}

/** A case that is named after its law: `laws/L4-window?left=3,right=0`. It needs `attention` unless `needs` says otherwise. */
export function lawCase(law: Law, options: Omit<CaseOptions, 'name'> & { readonly name?: string }, run: Case['run']): Case {
  const { name, laws: others = [] } = options;
  return defineCase({ ...options, name: `laws/${law}-${laws[law]}${name === undefined ? '' : `-${name}`}`, laws: [law, ...others] }, run);
}

/** True when a case's id begins with the filter, or one of its laws is the filter. An empty filter takes everything. */
export function matches(testCase: Pick<Case, 'id' | 'laws'>, filter: string): boolean {
  return testCase.id.startsWith(filter) || testCase.laws.some((law) => law === filter);
}
