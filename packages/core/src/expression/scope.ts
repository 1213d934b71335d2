import { AttentionError, isAttentionError } from '../errors.ts';
import { show } from '../show.ts';
import { constant, input, Term } from './build.ts';
import type { Axis, Declarations, TableDeclaration, TableRange, UniformDeclaration, UniformRange, UniformValue } from './declarations.ts';
import type { Expression, InputName, InputTypes, ScalarType } from './node.ts';
import { walk } from './node.ts';
import { print } from './print.ts';
import { simplify } from './simplify.ts';

type PairInput = 'batch' | 'head' | 'keyHead' | 'queryIndex' | 'keyIndex' | 'queryPosition' | 'keyPosition' | 'queryLength' | 'keyLength';

/** What a pair that is scored has besides: masks say which pairs exist, with or without a list of edges. */
type ScoredPairInput = PairInput | 'edgeIndex';

/** The places where an expression may stand, and what exists there. */
export interface SlotInputs {
  /** One channel of a row of q or k. `head` is the row's own head: a query head or a key head. */
  readonly transform: 'element' | 'channel' | 'batch' | 'head' | 'index' | 'position';
  /** One channel of the sum that makes a score. */
  readonly combine: 'queryElement' | 'keyElement' | 'channel' | 'batch' | 'head' | 'keyHead' | 'edgeIndex';
  /** From the score so far to the next. */
  readonly modify: 'score' | ScoredPairInput;
  /** Whether key j may be seen by query i; integers and booleans only. */
  readonly mask: PairInput;
  /** From the final score to what the normalization takes. */
  readonly normalize: 'score' | ScoredPairInput;
  /** From the normalized weight to the weight used. */
  readonly reweigh: 'weight' | ScoredPairInput;
  /** One channel of a value row, before aggregation. It sees the key's side only, so that heads of a group share it. */
  readonly prepare: 'value' | 'channel' | 'batch' | 'keyHead' | 'keyIndex' | 'keyPosition' | 'keyLength';
  /** One channel of the aggregated row. It sees the query's side only. */
  readonly finish: 'output' | 'channel' | 'batch' | 'head' | 'keyHead' | 'queryIndex' | 'queryPosition' | 'queryLength' | 'keyLength';
}

export type Slot = keyof SlotInputs;

const pair: readonly PairInput[] = ['batch', 'head', 'keyHead', 'queryIndex', 'keyIndex', 'queryPosition', 'keyPosition', 'queryLength', 'keyLength'];

/** {@link SlotInputs} as data. */
export const slots: { readonly [S in Slot]: readonly SlotInputs[S][] } = {
  transform: ['element', 'channel', 'batch', 'head', 'index', 'position'],
  combine: ['queryElement', 'keyElement', 'channel', 'batch', 'head', 'keyHead', 'edgeIndex'],
  modify: ['score', ...pair, 'edgeIndex'],
  mask: pair,
  normalize: ['score', ...pair, 'edgeIndex'],
  reweigh: ['weight', ...pair, 'edgeIndex'],
  prepare: ['value', 'channel', 'batch', 'keyHead', 'keyIndex', 'keyPosition', 'keyLength'],
  finish: ['output', 'channel', 'batch', 'head', 'keyHead', 'queryIndex', 'queryPosition', 'queryLength', 'keyLength'],
};

/** A table as an author uses it. */
export interface TableTerm<T extends ScalarType> {
  /** One index for each declared axis. */
  at(...indices: readonly (Term<'i32'> | number)[]): Term<T>;
}

export interface ScopeTools {
  /** Declares (once or again) a named table, and the range that its values keep to, and reads it. Default type f32. */
  readonly table: <T extends ScalarType = 'f32'>(name: string, axes: readonly Axis[], type?: T, range?: TableRange) => TableTerm<T>;
  /** Declares (once or again) a scalar parameter `<member>.<name>` with its default, and the range that every value of it keeps to. Default type f32. */
  readonly uniform: <T extends 'f32' | 'i32' = 'f32'>(name: string, value: UniformValue, type?: T, range?: UniformRange) => Term<T>;
  /** A number in (0, 1) for each pair; `seed` is an i32 uniform, another `stream` gives independent numbers (L14). Default stream 0; `gumbel` uses 1 and `dropout` 2. */
  readonly random: (seed: Term<'i32'>, stream?: number) => Term<'f32'>;
  /** The product of the transformed, unscaled query row with rows of a table [rows, scoreDim], or [head, rows, scoreDim] with `perHead`. Only in `modify`. */
  readonly queryTable: (name: string, rows: Axis, options?: { readonly perHead?: boolean }) => QueryTableTerm;
}

/** A query table as an author uses it. */
export interface QueryTableTerm {
  at(row: Term<'i32'> | number): Term<'f32'>;
}

/** What an author's function receives: the inputs of the slot as terms, and the tools. */
export type Scope<S extends Slot> = { readonly [N in SlotInputs[S]]: Term<InputTypes[N]> } & ScopeTools;

/** An expression with what it needs bound. */
export interface Formula extends Declarations {
  readonly expression: Expression;
}

/**
 * Runs an author's function once and keeps what it wrote as frozen data.
 *
 * @param slot   where the expression will stand
 * @param member name of the stage member; prefixes its uniforms
 * @throws AttentionError `invalid-expression`, `invalid-uniform`
 */
export function write<S extends Slot, T extends ScalarType>(slot: S, member: string, author: (scope: Scope<S>) => Term<T>): Formula {
  const uniforms: Record<string, UniformDeclaration> = {};
  const tables: Record<string, TableDeclaration> = {};
  const declareTable = (name: string, declaration: TableDeclaration): void => {
    const axes: unknown = declaration.axes;
    if (!Array.isArray(axes)) throw new AttentionError('invalid-expression', `Table ${show(name)} got the axes ${show(axes)}.`, "Name its axes: table('slopes', ['head']).");
    declare(tables, name, Object.freeze({ ...declaration, axes: Object.freeze([...declaration.axes]) }));
  };
  const tools: ScopeTools = {
    table: <N extends ScalarType = 'f32'>(name: string, axes: readonly Axis[], type: N = 'f32' as N, range?: TableRange): TableTerm<N> => {
      declareTable(name, { type, axes, ...(range === undefined ? {} : { range: Object.freeze(range) }) });
      return { at: (...indices) => new Term<N>(tableRead(name, axes, type, indices), type) };
    },
    uniform: <N extends 'f32' | 'i32' = 'f32'>(name: string, value: UniformValue, type: N = 'f32' as N, range?: UniformRange): Term<N> => {
      const full = member === '' ? name : `${member}.${name}`;
      const declaration: UniformDeclaration = Object.freeze({ type, value, ...(range === undefined ? {} : { range: Object.freeze(range) }) });
      checkUniform(full, value, declaration);
      declare(uniforms, full, declaration);
      return new Term<N>(Object.freeze({ kind: 'uniform', type, name: full }), type);
    },
    random: (seed, stream = 0) => {
      const node = seed instanceof Term ? seed.node : null;
      if (node?.kind !== 'uniform' || node.type !== 'i32') throw new AttentionError('invalid-expression', `random() got the seed ${node === null ? show(seed) : print(node)}.`, "Pass uniform('seed', …, 'i32').");
      if ((stream | 0) !== stream) throw new AttentionError('invalid-expression', `random() got the stream ${stream}.`, 'Expected a 32-bit integer.');
      return new Term(Object.freeze({ kind: 'random', type: 'f32', seed: node.name, stream }), 'f32');
    },
    queryTable: (name, rows, options = {}) => {
      declareTable(name, { type: 'f32', axes: options.perHead === true ? ['head', rows, 'scoreDim'] : [rows, 'scoreDim'] });
      return { at: (row) => new Term(Object.freeze({ kind: 'queryTable', type: 'f32', name, row: indexNode(name, row) }), 'f32') };
    },
  };
  const inputs = Object.fromEntries(slots[slot].map((name) => [name, input(name)]));
  const what = `${nouns[slot] ?? slot} ${show(member)}`;
  const given: unknown = author;
  if (typeof given !== 'function') throw new AttentionError('invalid-expression', `Got ${show(given)} for the function of ${what}.`, 'Pass a name, then a function that returns a term.');
  const term: unknown = authored(what, () => author(guarded({ ...inputs, ...tools }) as unknown as Scope<S>));
  if (!(term instanceof Term)) throw new AttentionError('invalid-expression', `${member} returned ${typeof term} in ${slot}.`, 'Return a term: one of the inputs, or what its methods return.');
  checkExpression(term.node, slot, slot === 'mask' ? 'bool' : 'f32', { uniforms, tables });
  return Object.freeze({ expression: simplify(term.node), uniforms: Object.freeze(uniforms), tables: Object.freeze(tables) });
}

/** What stands in a slot, where it has a name of its own. */
const nouns: Readonly<Partial<Record<Slot, string>>> = { combine: 'scoring', modify: 'modifier', normalize: 'normalization', reweigh: 'reweighing' };

/** A caller without types may ask for an input that only other slots have. */
function guarded<T extends object>(scope: T): T {
  return new Proxy(scope, {
    get: (known, name): unknown => {
      if (typeof name === 'string' && !Object.hasOwn(known, name)) throw new AttentionError('invalid-expression', `There is no '${name}'.`, `It has ${Object.keys(known).join(', ')}.`);
      return Reflect.get(known, name);
    },
  });
}

/** Runs an author's function; what it does wrong is said with the member's name. */
function authored<T>(what: string, author: () => T): T {
  try {
    return author();
  } catch (error) {
    if (!isAttentionError(error, 'invalid-expression')) throw error;
    const { code, hint, message } = error;
    throw new AttentionError(code, `In ${what}: ${message.slice(0, message.length - hint.length).trimEnd()}`, hint, { cause: error });
  }
}

/** Records a name; a second declaration must equal the first. Names are plain, so that printed expressions can be told apart. */
function declare<D>(known: Record<string, D>, name: string, declaration: D): void {
  if (!/^[A-Za-z][\w.]*$/.test(name)) throw new AttentionError('invalid-expression', `'${name}' is declared.`, 'Names are letters, digits, underscores and dots, a letter first.');
  if (Object.hasOwn(known, name) && JSON.stringify(known[name]) !== JSON.stringify(declaration)) {
    throw new AttentionError('invalid-expression', `'${name}' is declared in two ways.`, 'Declare it alike or name it otherwise.');
  }
  known[name] = declaration;
}

function tableRead(name: string, axes: readonly Axis[], type: ScalarType, indices: readonly (Term<'i32'> | number)[]): Expression {
  if (indices.length !== axes.length) {
    throw new AttentionError('invalid-expression', `Table '${name}' has ${axes.length} axes and is read with ${indices.length} indices.`, 'Give one index for each axis.');
  }
  return Object.freeze({ kind: 'table', type, name, indices: Object.freeze(indices.map((index) => indexNode(name, index))) });
}

function indexNode(table: string, index: Term<'i32'> | number): Expression {
  const node: Expression = index instanceof Term ? index.node : constant(index, 'i32').node;
  if (node.type !== 'i32') throw new AttentionError('invalid-expression', `Table '${table}' is read at ${print(node)}, which is ${node.type}.`, 'Indices are i32.');
  return node;
}

/** @throws AttentionError `invalid-uniform` */
export function checkUniform(name: string, value: unknown, { type, range: [least, most] = [-Infinity, Infinity] }: UniformDeclaration): void {
  if (value === 'inverseSqrtDim' && type === 'f32') return;
  if (typeof value === 'number' && value >= least && value <= most && (type === 'f32' || (value | 0) === value)) return;
  const within = least === -Infinity ? '' : ` from ${least} to ${most}`;
  throw new AttentionError('invalid-uniform', `Uniform '${name}' got ${show(value)}.`, `Expected a ${type === 'i32' ? '32-bit integer' : 'number'}${within}.`);
}

/**
 * Checks an expression against the slot where it stands and what its piece declares; a mask may hold no f32.
 * @throws AttentionError `invalid-expression`
 */
export function checkExpression(expression: Expression, slot: Slot, type: ScalarType, declared: Declarations): void {
  const given: unknown = expression;
  if (typeof given !== 'object' || given === null) throw new AttentionError('invalid-expression', `In ${slot}: got ${show(given)}.`, 'Pass what a member of that kind returns, such as a modifier for modify.');
  const fail = (what: string, hint: string): never => {
    throw new AttentionError('invalid-expression', `In ${slot}, ${print(expression)}: ${what}.`, hint);
  };
  if (expression.type !== type) fail(`the result is ${expression.type}, expected ${type}`, 'Convert with toF32() or compare.');
  const allowed: readonly InputName[] = slots[slot];
  for (const node of walk(expression)) {
    if (slot === 'mask' && node.type === 'f32') fail(`${print(node)} is f32`, 'Masks read only integers, booleans and integer or boolean tables; make a modifier of anything else.');
    if (node.kind === 'input' && !allowed.includes(node.name)) fail(`'${node.name}' does not exist there`, `It may read ${allowed.join(', ')}.`);
    if (node.kind === 'queryTable' && slot !== 'modify') fail('a query table exists only in modifiers', 'Move it to a modifier.');
    if (node.kind === 'random' && !Object.hasOwn(declared.uniforms, node.seed)) fail(`uniform '${node.seed}' is not declared`, 'Declare it.');
    if (node.kind === 'random' && !(slot === 'modify' || slot === 'normalize' || slot === 'reweigh')) fail('random numbers exist for pairs only', 'Move it to a modifier, a normalization or a reweighing.');
    if (node.kind === 'uniform' && !Object.hasOwn(declared.uniforms, node.name)) fail(`uniform '${node.name}' is not declared`, 'Declare it.');
    if ((node.kind === 'table' || node.kind === 'queryTable') && !Object.hasOwn(declared.tables, node.name)) fail(`table '${node.name}' is not declared`, 'Declare it.');
  }
}
