/**
 * The expression language: small, typed, pure. A variant is written in it, and every backend lowers it.
 * Nodes are frozen plain data. f32 arithmetic is what a backend computes in float32; the reference evaluates it in float64. i32 wraps around.
 */
export type ScalarType = 'f32' | 'i32' | 'bool';

/** Everything an expression may read of the place where it stands. Which of them exist where is in scope.ts. */
export interface InputTypes {
  /** The combined and scaled score, as modified so far. */
  readonly score: 'f32';
  /** The normalized weight. */
  readonly weight: 'f32';
  /** One channel of the value row, in `prepare`. */
  readonly value: 'f32';
  /** One channel of the aggregated row, in `finish`. */
  readonly output: 'f32';
  /** One channel of the query and of the key row, in `combine`. */
  readonly queryElement: 'f32';
  readonly keyElement: 'f32';
  /** One channel of the row, in a row transform. */
  readonly element: 'f32';
  /** Sequence of the batch, or packed sequence. */
  readonly batch: 'i32';
  /** Query head. */
  readonly head: 'i32';
  /** floor(head · keyHeads / heads) (L6). */
  readonly keyHead: 'i32';
  /** Rows of the tensors, counted within the sequence. */
  readonly queryIndex: 'i32';
  readonly keyIndex: 'i32';
  /** Which edge of the call's edge list joins the pair: its place in `edges.keys`. Only in calls with edges. */
  readonly edgeIndex: 'i32';
  /** What masks and distances mean (L3). */
  readonly queryPosition: 'i32';
  readonly keyPosition: 'i32';
  /** Rows of this sequence; of the whole sequence when the keys given are one shard of it. */
  readonly queryLength: 'i32';
  readonly keyLength: 'i32';
  /** Channel of a row: of q' and k' in `combine`, of a value in `prepare` and `finish`, of the row in a transform. */
  readonly channel: 'i32';
  /** Row and position of a row transform, whichever of q and k it transforms. */
  readonly index: 'i32';
  readonly position: 'i32';
}

export type InputName = keyof InputTypes;

export interface Constant {
  readonly kind: 'constant';
  readonly type: ScalarType;
  /** A boolean is 0 or 1. */
  readonly value: number;
}

export interface Input {
  readonly kind: 'input';
  readonly type: ScalarType;
  readonly name: InputName;
}

/** A scalar parameter, bound at run time; another value compiles nothing. */
export interface Uniform {
  readonly kind: 'uniform';
  readonly type: 'f32' | 'i32';
  readonly name: string;
}

/** One element of a named table: one index for each axis it declares. */
export interface TableRead {
  readonly kind: 'table';
  readonly type: ScalarType;
  readonly name: string;
  readonly indices: readonly Expression[];
}

/** Σ_d q'_id · table[row, d], with the transformed query row, not scaled. */
export interface QueryTableRead {
  readonly kind: 'queryTable';
  readonly type: 'f32';
  readonly name: string;
  readonly row: Expression;
}

/**
 * A number in (0, 1) from Threefry-2x32 (Salmon 2011), keyed by (seed, stream, sequence, head, queryPosition, keyPosition) (L14).
 * `seed` names an i32 uniform.
 */
export interface Random {
  readonly kind: 'random';
  readonly type: 'f32';
  readonly seed: string;
  readonly stream: number;
}

export interface Operation {
  readonly kind: 'operation';
  readonly type: ScalarType;
  readonly operator: Operator;
  readonly operands: readonly Expression[];
}

export type Expression = Constant | Input | Uniform | TableRead | QueryTableRead | Random | Operation;

/** Operand and result types of an operator: 'number' is f32 or i32, the same for all of them. */
export interface Signature {
  readonly operands: readonly (ScalarType | 'number' | 'any')[];
  readonly result: ScalarType | 'number' | 'any';
}

export type Operator =
  | 'add' | 'sub' | 'mul' | 'div' | 'floorDiv' | 'mod' | 'neg' | 'abs' | 'min' | 'max' | 'exp' | 'log' | 'tanh' | 'sin' | 'cos' | 'pow' | 'eq' | 'ne'
  | 'lt' | 'le' | 'gt' | 'ge' | 'and' | 'or' | 'not' | 'select' | 'toF32';

/** Every operator with its signature. Adding one is a row here and a row in each reading. */
export const operators: Readonly<Record<Operator, Signature>> = {
  add: { operands: ['number', 'number'], result: 'number' },
  sub: { operands: ['number', 'number'], result: 'number' },
  mul: { operands: ['number', 'number'], result: 'number' },
  /** f32 only. */
  div: { operands: ['f32', 'f32'], result: 'f32' },
  /** Floor of the quotient; the divisor must be positive. */
  floorDiv: { operands: ['i32', 'i32'], result: 'i32' },
  /** Rest of floorDiv, 0 … divisor − 1; the divisor must be positive. */
  mod: { operands: ['i32', 'i32'], result: 'i32' },
  neg: { operands: ['number'], result: 'number' },
  abs: { operands: ['number'], result: 'number' },
  min: { operands: ['number', 'number'], result: 'number' },
  max: { operands: ['number', 'number'], result: 'number' },
  exp: { operands: ['f32'], result: 'f32' },
  log: { operands: ['f32'], result: 'f32' },
  tanh: { operands: ['f32'], result: 'f32' },
  sin: { operands: ['f32'], result: 'f32' },
  cos: { operands: ['f32'], result: 'f32' },
  /** base ** exponent; the base must not be negative. */
  pow: { operands: ['f32', 'f32'], result: 'f32' },
  eq: { operands: ['number', 'number'], result: 'bool' },
  ne: { operands: ['number', 'number'], result: 'bool' },
  lt: { operands: ['number', 'number'], result: 'bool' },
  le: { operands: ['number', 'number'], result: 'bool' },
  gt: { operands: ['number', 'number'], result: 'bool' },
  ge: { operands: ['number', 'number'], result: 'bool' },
  and: { operands: ['bool', 'bool'], result: 'bool' },
  or: { operands: ['bool', 'bool'], result: 'bool' },
  not: { operands: ['bool'], result: 'bool' },
  /** condition ? a : b; the branch not taken has no effect, even if it is NaN. */
  select: { operands: ['bool', 'any', 'any'], result: 'any' },
  /** i32 or bool to f32. */
  toF32: { operands: ['any'], result: 'f32' },
};

/** Type of every input, for code that meets names as data. */
export const inputTypes: InputTypes = {
  score: 'f32',
  weight: 'f32',
  value: 'f32',
  output: 'f32',
  queryElement: 'f32',
  keyElement: 'f32',
  element: 'f32',
  batch: 'i32',
  head: 'i32',
  keyHead: 'i32',
  queryIndex: 'i32',
  keyIndex: 'i32',
  edgeIndex: 'i32',
  queryPosition: 'i32',
  keyPosition: 'i32',
  queryLength: 'i32',
  keyLength: 'i32',
  channel: 'i32',
  index: 'i32',
  position: 'i32',
};

/** The direct parts of an expression, left to right. */
export function partsOf(expression: Expression): readonly Expression[] {
  switch (expression.kind) {
    case 'operation':
      return expression.operands;
    case 'table':
      return expression.indices;
    case 'queryTable':
      return [expression.row];
    case 'constant':
    case 'input':
    case 'uniform':
    case 'random':
      return [];
  }
}

/** The same node over other parts. */
export function withParts(expression: Expression, parts: readonly Expression[]): Expression {
  switch (expression.kind) {
    case 'operation':
      return Object.freeze({ ...expression, operands: Object.freeze([...parts]) });
    case 'table':
      return Object.freeze({ ...expression, indices: Object.freeze([...parts]) });
    case 'queryTable':
      return Object.freeze({ ...expression, row: parts[0] ?? expression.row });
    case 'constant':
    case 'input':
    case 'uniform':
    case 'random':
      return expression;
  }
}

/** Every node, parts before wholes, each occurrence once. */
export function* walk(expression: Expression): Generator<Expression> {
  for (const part of partsOf(expression)) yield* walk(part);
  yield expression;
}

/** True when the expression reads this input. */
export function readsInput(expression: Expression, ...names: readonly InputName[]): boolean {
  for (const node of walk(expression)) if (node.kind === 'input' && names.includes(node.name)) return true;
  return false;
}

/** Replaces leaves and wholes bottom-up. */
export function rewrite(expression: Expression, change: (node: Expression) => Expression): Expression {
  const parts = partsOf(expression);
  const rewritten = parts.map((part) => rewrite(part, change));
  return change(rewritten.some((part, index) => part !== parts[index]) ? withParts(expression, rewritten) : expression);
}

/** True when both are the same tree. */
export function sameExpression(a: Expression, b: Expression): boolean {
  if (a === b) return true;
  if (a.kind !== b.kind || a.type !== b.type) return false;
  if (a.kind === 'operation' && b.kind === 'operation' && a.operator !== b.operator) return false;
  if (a.kind === 'constant' && b.kind === 'constant') return Object.is(a.value, b.value);
  if (a.kind === 'random' && b.kind === 'random') return a.seed === b.seed && a.stream === b.stream;
  if ('name' in a && 'name' in b && a.name !== b.name) return false;
  const left = partsOf(a);
  const right = partsOf(b);
  return left.length === right.length && left.every((part, index) => {
    const other = right[index];
    return other !== undefined && sameExpression(part, other);
  });
}
