import { AttentionError, constant, mask, modifier, type Masking, type Modifier, type Term } from '@heed/core';
import jsep from 'jsep';

/** The inputs that a formula may name, as terms of heed's expression language. */
type Inputs = Readonly<Record<string, Term>>;

/** Names that read better when typed, beside the inputs' own. */
const shortNames: Readonly<Record<string, string>> = { q: 'queryPosition', k: 'keyPosition', i: 'queryPosition', j: 'keyPosition', s: 'score', h: 'head' };

/**
 * A modifier of the score that somebody typed: `score - 0.5 * abs(q - k)`. It is parsed to an expression of heed and never run as code.
 * @throws AttentionError `invalid-expression` naming what is not understood
 */
export function typedScore(text: string): Modifier {
  return modifier('typed', ({ score, head, queryPosition, keyPosition, queryLength, keyLength }) => asFloat(translate(parse(text), { score, head, queryPosition, keyPosition, queryLength, keyLength })));
}

/**
 * A mask that somebody typed: `k <= q && q - k < 4`.
 * @throws AttentionError `invalid-expression`
 */
export function typedMask(text: string): Masking {
  return mask('typed', ({ head, queryPosition, keyPosition, queryLength, keyLength }) => {
    const term = translate(parse(text), { head, queryPosition, keyPosition, queryLength, keyLength });
    if (!isBool(term)) throw refused('A mask says yes or no', 'compare something, as in k <= q');
    return term;
  });
}

const maxLetters = 500;

function parse(text: string): jsep.Expression {
  if (text.length > maxLetters) throw refused(`The formula has ${text.length} letters`, `at most ${maxLetters} are read`);
  try {
    return jsep(text);
  } catch (cause) {
    throw new AttentionError('invalid-expression', `The formula cannot be read: ${cause instanceof Error ? cause.message : String(cause)}.`, 'Write it as in score - 0.5 * abs(q - k).', { cause });
  }
}

function translate(node: jsep.Expression, inputs: Inputs): Term {
  switch (node.type) {
    case 'Literal': {
      const { value } = node as jsep.Literal;
      if (typeof value === 'number') return Number.isSafeInteger(value) && Math.abs(value) < 2 ** 31 ? constant(value, 'i32') : constant(value);
      if (typeof value === 'boolean') return constant(value);
      throw refused(`'${String(value)}' is no number`, 'write numbers and names');
    }
    case 'Identifier': {
      const { name } = node as jsep.Identifier;
      const known = Object.hasOwn(shortNames, name) ? (shortNames[name] ?? name) : name;
      const term = Object.hasOwn(inputs, known) ? inputs[known] : undefined;
      if (term === undefined) throw refused(`'${name}' is not known here`, `it may read ${Object.keys(inputs).join(', ')}, or q and k for positions`);
      return term;
    }
    case 'UnaryExpression': {
      const { operator, argument } = node as jsep.UnaryExpression;
      const term = translate(argument, inputs);
      if (operator === '!') return bool(term, operator).not();
      if (operator === '-') return isInteger(term) ? term.neg() : asFloat(term).neg();
      if (operator === '+') return term;
      throw refused(`There is no ${operator} here`, 'write -, + or ! in front');
    }
    case 'BinaryExpression': {
      const { operator, left, right } = node as jsep.BinaryExpression;
      return binary(operator, translate(left, inputs), translate(right, inputs));
    }
    case 'ConditionalExpression': {
      const { test, consequent, alternate } = node as jsep.ConditionalExpression;
      return bool(translate(test, inputs), '?').select(asFloat(translate(consequent, inputs)), asFloat(translate(alternate, inputs)));
    }
    case 'CallExpression': {
      const { callee, arguments: given } = node as jsep.CallExpression;
      return call(callee.type === 'Identifier' ? (callee as jsep.Identifier).name : '', given.map((argument) => translate(argument, inputs)));
    }
    default:
      throw refused(`A ${node.type} has no meaning here`, 'write arithmetic, comparisons, && and ||, and functions such as abs');
  }
}

function binary(operator: string, left: Term, right: Term): Term {
  if (operator === '&&') return bool(left, operator).and(bool(right, operator));
  if (operator === '||') return bool(left, operator).or(bool(right, operator));
  // A quotient has a fraction; everything else of two whole numbers is whole.
  if (isInteger(left) && isInteger(right) && operator !== '/') return arithmetic(operator, left, right);
  return arithmetic(operator, asFloat(left), asFloat(right));
}

function arithmetic<N extends 'i32' | 'f32'>(operator: string, left: Term<N>, right: Term<N>): Term {
  switch (operator) {
    case '+':
      return left.add(right);
    case '-':
      return left.sub(right);
    case '*':
      return left.mul(right);
    case '/':
      return asFloat(left).div(asFloat(right));
    case '%':
      if (!isInteger(left) || !isInteger(right)) throw refused('% is of whole numbers', 'use positions and whole numbers');
      return left.mod(right);
    case '<':
      return left.lt(right);
    case '<=':
      return left.le(right);
    case '>':
      return left.gt(right);
    case '>=':
      return left.ge(right);
    case '==':
    case '===':
      return left.eq(right);
    case '!=':
    case '!==':
      return left.ne(right);
    default:
      throw refused(`There is no ${operator} here`, 'write + - * / %, comparisons, && and ||');
  }
}

function call(name: string, given: readonly Term[]): Term {
  const [first, second] = given;
  const one = ['abs', 'exp', 'log', 'tanh', 'sin', 'cos', 'sigmoid'] as const;
  const of = one.find((each) => each === name);
  if (of !== undefined && first !== undefined && given.length === 1) {
    if (of === 'abs' && isInteger(first)) return first.abs();
    return asFloat(first)[of]();
  }
  if ((name === 'min' || name === 'max' || name === 'pow') && first !== undefined && second !== undefined && given.length === 2) return asFloat(first)[name](asFloat(second));
  throw refused(`There is no ${name}(${given.map(() => '…').join(', ')})`, `use ${[...one, 'min', 'max', 'pow'].join(', ')}`);
}

function isInteger(term: Term): term is Term<'i32'> {
  return term.type === 'i32';
}

function isBool(term: Term): term is Term<'bool'> {
  return term.type === 'bool';
}

function bool(term: Term, operator: string): Term<'bool'> {
  if (isBool(term)) return term;
  throw refused(`${operator} is of yes and no`, 'compare something first');
}

function asFloat(term: Term): Term<'f32'> {
  if (term.type === 'f32') return term as Term<'f32'>;
  if (isInteger(term)) return term.toF32();
  return (term as Term<'bool'>).toF32();
}

function refused(problem: string, remedy: string): AttentionError {
  return new AttentionError('invalid-expression', `${problem}.`, `${remedy.charAt(0).toUpperCase()}${remedy.slice(1)}.`);
}
