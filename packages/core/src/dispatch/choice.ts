import type { Assessment, AttentionInputs, Backend, CallShape, Capabilities, Request } from '../backend.ts';

/** What one backend says of one call. */
export interface Verdict<K> {
  readonly backend: Backend;
  /** Null when the backend does not do the request at all. */
  readonly kernel: K | null;
  /** Null when it can take the call; else every reason why not. */
  readonly refusal: string | null;
  /** Estimated time; Infinity when it gives no estimate. */
  readonly milliseconds: number;
}

/** A backend with what it made of a request. */
export interface Candidate<K> {
  readonly backend: Backend;
  readonly kernel: K | null;
}

/** What a call needs beyond the request, by the capability that says so. */
export type Need = 'blocks' | 'edges' | 'packed' | 'explicitPositions' | 'transformKeys' | 'partial';

/** Every candidate's verdict, in the order given. */
export function judge<K>(candidates: readonly Candidate<K>[], request: Request, shape: CallShape | null, needs: readonly Need[]): readonly Verdict<K>[] {
  return candidates.map(({ backend, kernel }): Verdict<K> => {
    const assessment = shape === null ? backend.assess(request) : backend.assess(request, shape);
    const missing = needs.filter((need) => !backend.capabilities[need]);
    const reasons = [...(assessment.supported ? [] : [reasonsOf(assessment)]), ...(missing.length === 0 ? [] : [`it does not take ${missing.join(', ')}`])];
    return { backend, kernel, refusal: reasons.length === 0 ? null : reasons.join('; '), milliseconds: assessment.supported ? (assessment.cost?.milliseconds ?? Infinity) : Infinity };
  });
}

/** The cheapest of those that can; the first of them on ties and without estimates. */
export function cheapest<K>(verdicts: readonly Verdict<K>[]): Verdict<K> | null {
  return verdicts.reduce<Verdict<K> | null>((best, verdict) => {
    if (verdict.refusal !== null) return best;
    return best === null || verdict.milliseconds < best.milliseconds ? verdict : best;
  }, null);
}

/** Why a candidate was not picked, beside the one that was. */
export function whyNot<K>(verdict: Verdict<K>, picked: Verdict<K>): string {
  if (verdict.refusal !== null) return verdict.refusal;
  if (verdict.milliseconds === picked.milliseconds) return `no cheaper than ${picked.backend.name}, which stands first`;
  return `estimated ${printTime(verdict.milliseconds)}, ${picked.backend.name} ${printTime(picked.milliseconds)}`;
}

function printTime(milliseconds: number): string {
  return milliseconds === Infinity ? 'at no known time' : `${Number(milliseconds.toPrecision(3))} ms`;
}

/** Every reason of a refusal with what would make it supported. */
export function reasonsOf(assessment: Assessment): string {
  return assessment.supported ? '' : assessment.refusals.map(({ stage, reason, remedy }) => `${stage}: ${reason} (${remedy})`).join('; ');
}

/** What a call of attention needs beyond its request. Inputs are not checked yet, so they may be anything. */
export function needsOf(inputs: unknown): readonly Need[] {
  const has = (name: keyof AttentionInputs): boolean => field(inputs, name) !== undefined;
  const needs: Need[] = [];
  if (has('blocks')) needs.push('blocks');
  if (has('edges')) needs.push('edges');
  if (has('packed')) needs.push('packed');
  if (has('queryPositions') || has('keyPositions')) needs.push('explicitPositions');
  if (field(inputs, 'keysTransformed') === true) needs.push('transformKeys');
  return needs;
}

/**
 * Sizes of a call for an estimate; null when the inputs have none, which the kernel then says in its own words.
 * Packed sequences count as that many of their mean length.
 */
export function shapeOf(inputs: unknown): CallShape | null {
  const query = sizesOf(field(inputs, 'query'));
  const key = sizesOf(field(inputs, 'key'));
  if (query === null || key === null) return null;
  const [batch, heads, queryLength] = query;
  const [, keyHeads, rows] = key;
  const sequences = sequencesOf(field(field(inputs, 'packed'), 'query'));
  const maxPages = field(field(field(field(inputs, 'pages'), 'pages'), 'shape'), '1');
  const keyLength = typeof maxPages === 'number' ? maxPages * rows : rows;
  return { batch: batch * sequences, heads, keyHeads, queryLength: Math.ceil(queryLength / sequences), keyLength: Math.ceil(keyLength / sequences) };
}

/** The same for fast weights: as many keys as queries, and a state for each value head. */
export function recurrentShapeOf(inputs: unknown): CallShape | null {
  const query = sizesOf(field(inputs, 'query'));
  const value = sizesOf(field(inputs, 'value'));
  if (query === null || value === null) return null;
  const [batch, heads, length] = query;
  const sequences = sequencesOf(field(inputs, 'packed'));
  const each = Math.ceil(length / sequences);
  return { batch: batch * sequences, heads: value[1], keyHeads: heads, queryLength: each, keyLength: each };
}

/** Number of sequences of cumulative offsets; 1 where there are none. */
function sequencesOf(offsets: unknown): number {
  const length = field(offsets, 'length');
  return typeof length === 'number' && length > 2 ? length - 1 : 1;
}

function field(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined;
}

function sizesOf(tensor: unknown): readonly [number, number, number] | null {
  const shape = field(tensor, 'shape');
  if (!Array.isArray(shape) || shape.length !== 4) return null;
  const [batch, heads, length] = shape as readonly unknown[];
  return typeof batch === 'number' && typeof heads === 'number' && typeof length === 'number' ? [batch, heads, length] : null;
}

/**
 * What can be asked of several backends together: an ability that one has; a promise that all keep.
 */
export function joinCapabilities(all: readonly Capabilities[]): Capabilities {
  const some = (has: (one: Capabilities) => boolean): boolean => all.some(has);
  const every = (has: (one: Capabilities) => boolean): boolean => all.every(has);
  const union = <T>(list: (one: Capabilities) => readonly T[]): readonly T[] => [...new Set(all.flatMap(list))];
  return Object.freeze({
    variants: union((one) => one.variants),
    dtypes: union((one) => one.dtypes),
    logSumExp: every((one) => one.logSumExp),
    partial: some((one) => one.partial),
    blocks: some((one) => one.blocks),
    edges: some((one) => one.edges),
    packed: some((one) => one.packed),
    explicitPositions: some((one) => one.explicitPositions),
    transformKeys: some((one) => one.transformKeys),
    observe: union((one) => one.observe),
    keyMass: some((one) => one.keyMass),
    gradients: some((one) => one.gradients),
    storage: union((one) => one.storage),
    abort: every((one) => one.abort),
    nonFinite: every((one) => one.nonFinite === 'exact') ? ('exact' as const) : ('unspecified' as const),
    deterministic: every((one) => one.deterministic),
    maxDim: Math.max(...all.map((one) => one.maxDim)),
  });
}
