import { aggregations, maskings, modifiers, normalizations, scorings } from '../model/members.ts';
import type { TypedTables } from '../model/number-tables.ts';

export const views = ['stages', 'pooling', 'graph', 'scale', 'position', 'blocks', 'kernel', 'cost', 'dynamics', 'state'] as const;
export type View = (typeof views)[number];

export const backends = ['cpu', 'webgpu', 'reference'] as const;
export type BackendName = (typeof backends)[number];

/** All that a view shows, and so all that a link to it says. */
export interface ExplorerState {
  readonly view: View;
  readonly text: string;
  /** Typed tables in the place of the text; null: the text. */
  readonly tables: TypedTables | null;
  readonly head: number;
  readonly backend: BackendName;
  readonly scoring: string;
  readonly modifiers: readonly string[];
  readonly masking: string;
  readonly normalization: string;
  readonly aggregation: string;
  /** A formula for the score, typed; empty: none. */
  readonly typedScore: string;
  /** A rule for what may be seen, typed; empty: none. */
  readonly typedMask: string;
  /** Values of uniforms that differ from their defaults. */
  readonly uniforms: Readonly<Record<string, number>>;
}

export const firstText = 'The bank was closed because it was late.';

export const initial: ExplorerState = {
  view: 'stages', text: firstText, tables: null, head: 0, backend: 'cpu', scoring: 'scaledDot', modifiers: [], masking: 'full', normalization: 'softmax', aggregation: 'weightedSum', typedScore: '', typedMask: '', uniforms: {},
};

/** The part of an address behind '#': what differs from the beginning. */
export function toHash(state: ExplorerState): string {
  const fields = new URLSearchParams();
  for (const name of ['view', 'text', 'backend', 'scoring', 'masking', 'normalization', 'aggregation', 'typedScore', 'typedMask'] as const) if (state[name] !== initial[name]) fields.set(name, state[name]);
  if (state.head !== 0) fields.set('head', String(state.head));
  if (state.modifiers.length > 0) fields.set('modifiers', state.modifiers.join(' '));
  for (const [name, value] of Object.entries(state.uniforms)) fields.set(`$${name}`, String(value));
  if (state.tables !== null) for (const name of ['query', 'key', 'value'] as const) fields.set(name, state.tables[name]);
  return fields.toString();
}

/** What an address says; whatever it says wrongly is as at the beginning. */
export function fromHash(hash: string): ExplorerState {
  const fields = new URLSearchParams(hash.replace(/^#/, ''));
  const among = <T extends string>(name: string, known: readonly T[], fallback: T): T => known.find((each) => each === fields.get(name)) ?? fallback;
  const all = Array.from<readonly [string, string]>(fields);
  const [query, key, value] = [fields.get('query'), fields.get('key'), fields.get('value')];
  const head = Number(fields.get('head') ?? 0);
  return {
    view: among('view', views, initial.view),
    text: fields.get('text') ?? initial.text,
    tables: query === null || key === null || value === null ? null : { query, key, value },
    head: Number.isSafeInteger(head) && head >= 0 ? head : 0,
    backend: among('backend', backends, initial.backend),
    scoring: among('scoring', Object.keys(scorings), initial.scoring),
    modifiers: (fields.get('modifiers') ?? '').split(' ').filter((name) => Object.hasOwn(modifiers, name)),
    masking: among('masking', Object.keys(maskings), initial.masking),
    normalization: among('normalization', Object.keys(normalizations), initial.normalization),
    aggregation: among('aggregation', Object.keys(aggregations), initial.aggregation),
    typedScore: fields.get('typedScore') ?? '',
    typedMask: fields.get('typedMask') ?? '',
    uniforms: Object.fromEntries(all.filter(([name, text]) => name.startsWith('$') && text !== '' && Number.isFinite(Number(text))).map(([name, text]) => [name.slice(1), Number(text)])),
  };
}
