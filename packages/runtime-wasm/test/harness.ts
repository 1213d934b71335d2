/** Runs what an emitter emits. */
import { ModuleBuilder } from '../src/emit/module.ts';
import type { FunctionBuilder } from '../src/emit/function.ts';
import type { Local } from '../src/emit/instruction.ts';
import type { ValueType } from '../src/emit/opcodes.ts';

export interface Running {
  readonly memory: WebAssembly.Memory;
  readonly run: (...operands: (number | bigint)[]) => number;
  readonly text: string;
}

/** A module of one exported function `run` over an unshared memory of `pages` × 64 KiB. */
export function instantiate<const Parameters extends Readonly<Record<string, ValueType>>>(
  parameters: Parameters,
  results: readonly ValueType[],
  body: (f: FunctionBuilder, locals: { readonly [Name in keyof Parameters]: Local<Parameters[Name]> }) => void,
  pages = 1,
): Running {
  const builder = new ModuleBuilder('test');
  builder.importMemory('env', 'memory', { shared: false });
  builder.function('run', { parameters, results, export: true }, body);
  const memory = new WebAssembly.Memory({ initial: pages });
  const instance = new WebAssembly.Instance(new WebAssembly.Module(builder.bytes()), { env: { memory } });
  return { memory, run: instance.exports.run as Running['run'], text: builder.text() };
}
