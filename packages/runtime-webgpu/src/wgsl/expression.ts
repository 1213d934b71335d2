import { partsOf, walk, type Expression, type InputName, type Operator, type QueryTableRead, type Random, type ScalarType, type TableRead } from '@heed/core';
import type { Builtin } from './builtins.ts';
import { f32Literal, type WgslWriter } from './writer.ts';

/** Where an expression stands: the WGSL text of everything that it may read. */
export interface WgslEnvironment {
  input(name: InputName): string;
  uniform(name: string): string;
  table(node: TableRead, indices: readonly string[]): string;
  queryTable(node: QueryTableRead, row: string): string;
  random(node: Random): string;
}

/** What a function's lowerings have in common. */
export interface SharedNames {
  /** Builtins that were called; the module must declare them. */
  readonly builtins: Set<Builtin>;
  /** How many locals were named. */
  locals: number;
}

/** The sixth reading: expressions as WGSL. Nodes that stand in several places become locals of their own. */
export class WgslLowering {
  readonly #writer: WgslWriter;
  readonly #environment: WgslEnvironment;
  readonly #shared: SharedNames;

  /** @param shared one for all that is lowered into a function, so that locals have different names */
  constructor(writer: WgslWriter, environment: WgslEnvironment, shared: SharedNames) {
    this.#writer = writer;
    this.#environment = environment;
    this.#shared = shared;
  }

  /** The value as one WGSL expression; locals that it needs are written before. */
  lower(expression: Expression): string {
    const shared = sharedParts(expression);
    const known = new Map<Expression, string>();
    const at = (node: Expression): string => {
      const name = known.get(node);
      if (name !== undefined) return name;
      const text = this.#text(node, at);
      if (!shared.has(node)) return text;
      this.#shared.locals += 1;
      const local = `value${this.#shared.locals}`;
      this.#writer.line(`let ${local} = ${text};`);
      known.set(node, local);
      return local;
    };
    return unwrapped(at(expression));
  }

  #text(node: Expression, at: (part: Expression) => string): string {
    switch (node.kind) {
      case 'constant':
        return constantText(node.value, node.type);
      case 'input':
        return this.#environment.input(node.name);
      case 'uniform':
        return this.#environment.uniform(node.name);
      case 'table':
        return this.#environment.table(node, node.indices.map((index) => unwrapped(at(index))));
      case 'queryTable':
        return this.#environment.queryTable(node, unwrapped(at(node.row)));
      case 'random':
        return this.#environment.random(node);
      case 'operation': {
        const [a = '', b = '', c = ''] = node.operands.map(at);
        const row = operatorRows[node.operator];
        if (row.builtin !== undefined) this.#shared.builtins.add(row.builtin);
        return row.text(a, b, c);
      }
    }
  }
}

/** Operations that occur more than once as the same object, and are worth a name. */
function sharedParts(expression: Expression): ReadonlySet<Expression> {
  const seen = new Set<Expression>();
  const shared = new Set<Expression>();
  for (const node of walk(expression)) {
    if (seen.has(node) && partsOf(node).length > 0) shared.add(node);
    seen.add(node);
  }
  return shared;
}

function constantText(value: number, type: ScalarType): string {
  if (type === 'bool') return value === 0 ? 'false' : 'true';
  if (type === 'f32') return value < 0 ? `(${f32Literal(value)})` : f32Literal(value);
  return value < 0 ? `i32(${value})` : `${value}i`;
}

interface OperatorRow {
  readonly text: (a: string, b: string, c: string) => string;
  readonly builtin?: Builtin;
}

const infix = (symbol: string): OperatorRow => ({ text: (a, b) => `(${a} ${symbol} ${b})` });
const call = (name: string): OperatorRow => ({ text: (a, b, c) => `${name}(${[a, b, c].filter((part) => part !== '').map(unwrapped).join(', ')})` });
const builtin = (name: Builtin): OperatorRow => ({ ...call(name), builtin: name });

/** One row per operator. */
const operatorRows: Readonly<Record<Operator, OperatorRow>> = {
  add: infix('+'),
  sub: infix('-'),
  mul: infix('*'),
  div: infix('/'),
  floorDiv: builtin('floorDivide'),
  mod: builtin('floorModulo'),
  neg: { text: (a) => `(-${a})` },
  abs: call('abs'),
  min: call('min'),
  max: call('max'),
  exp: builtin('exponential'),
  log: builtin('naturalLogarithm'),
  tanh: builtin('hyperbolicTangent'),
  sin: builtin('sine'),
  cos: builtin('cosine'),
  pow: builtin('power'),
  eq: infix('=='),
  ne: infix('!='),
  lt: infix('<'),
  le: infix('<='),
  gt: infix('>'),
  ge: infix('>='),
  and: infix('&&'),
  or: infix('||'),
  not: { text: (a) => `(!${a})` },
  select: { text: (a, b, c) => `select(${unwrapped(c)}, ${unwrapped(b)}, ${unwrapped(a)})` },
  toF32: call('f32'),
};

/** Without one pair of parentheses around the whole, where there is one. */
function unwrapped(text: string): string {
  if (!text.startsWith('(') || !text.endsWith(')')) return text;
  let depth = 0;
  for (let place = 0; place < text.length - 1; place += 1) {
    if (text[place] === '(') depth += 1;
    else if (text[place] === ')') depth -= 1;
    if (depth === 0) return text;
  }
  return text.slice(1, -1);
}
