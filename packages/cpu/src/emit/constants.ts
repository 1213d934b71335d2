import type { FunctionBuilder, Local, Operand, Signature, Value, ValueType } from '@heed/runtime-wasm';
import { instructions, ModuleBuilder } from '@heed/runtime-wasm';

type Body<Parameters extends Readonly<Record<string, ValueType>>> = (f: FunctionBuilder, parameters: { readonly [Name in keyof Parameters]: Local<Parameters[Name]> }) => void;

/** What a vector constant becomes. */
type Replace = (constant: Uint8Array) => Value<'v128'> | null;

/**
 * Defines a function whose vector constants are made once, where it begins. Engines make a constant again wherever it is written, at the price of several
 * instructions, which in an inner loop full of polynomials costs more than the polynomials. The body is written twice: first aside, to see which constants occur.
 */
export function functionWithConstants<const Parameters extends Readonly<Record<string, ValueType>>, Result extends ValueType = never>(
  module: ModuleBuilder,
  name: string,
  signature: Signature<Parameters, Result>,
  body: Body<Parameters>,
): ReturnType<typeof module.function<Parameters, Result>> {
  const found = new Map<string, Uint8Array>();
  new ModuleBuilder(name).function(name, signature, (f, parameters) => {
    body(replacing(f, (constant) => {
      found.set(constant.join(), constant);
      return null;
    }), parameters);
  });
  return module.function(name, signature, (f, parameters) => {
    const locals = new Map<string, Local<'v128'>>();
    for (const [key, constant] of found) {
      locals.set(key, f.let('constant', instructions.v128.const(constant)));
    }
    body(replacing(f, (constant) => locals.get(constant.join()) ?? null), parameters);
  });
}

/** The same builder, with the vector constants of every value that it is given replaced. */
function replacing(f: FunctionBuilder, replace: Replace): FunctionBuilder {
  const change = (value: unknown): unknown => (isValue(value) ? replaceIn(value, replace) : value);
  return new Proxy(f, {
    get: (target, name) => {
      const member: unknown = Reflect.get(target, name, target);
      if (typeof member !== 'function') return member;
      return (...given: readonly unknown[]): unknown => Reflect.apply(member, target, given.map(change));
    },
  });
}

function isValue(value: unknown): value is Value {
  return typeof value === 'object' && value !== null && 'kind' in value && (value.kind === 'instruction' || value.kind === 'select' || value.kind === 'tee' || value.kind === 'call');
}

function replaceIn(value: Value, replace: Replace): Value {
  const inside = (operand: Operand): Operand => (typeof operand === 'object' ? replaceIn(operand, replace) : operand);
  switch (value.kind) {
    case 'local':
      return value;
    case 'instruction': {
      const { constant } = value.immediates;
      if (value.opcode.name === 'v128.const' && constant instanceof Uint8Array) return replace(constant) ?? value;
      return { ...value, operands: value.operands.map(inside) };
    }
    case 'select':
      return { ...value, whenTrue: inside(value.whenTrue), whenFalse: inside(value.whenFalse), condition: inside(value.condition) as Operand<'i32'> };
    case 'tee':
      return { ...value, value: inside(value.value) };
    case 'call':
      return { ...value, operands: value.operands.map(inside) };
  }
}
