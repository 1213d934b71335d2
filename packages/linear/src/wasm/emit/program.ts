import { ModuleBuilder } from '@heed/runtime-wasm';
import { emitChunked } from './chunked.ts';
import type { Emission } from './context.ts';
import { emitLoad } from './load.ts';
import { emitRecurrent } from './recurrent.ts';
import { emitKeepState, emitTakeState } from './state.ts';
import { emitStore } from './store.ts';
import { emitToken } from './token.ts';

/** The module of a plan. Exports `recurrent`, and where the plan has chunks, `chunked`. */
export function emitProgram(given: Omit<Emission, 'module'>): ModuleBuilder {
  const module = new ModuleBuilder('linear');
  module.importMemory('env', 'memory', { shared: given.plan.machine.shared });
  const emission: Emission = { ...given, module };
  const parts = { load: emitLoad(emission), store: emitStore(emission), token: emitToken(emission, 'token', emission.plan.valueStride * 4), takeState: emitTakeState(emission), keepState: emitKeepState(emission) };
  emitRecurrent(emission, parts);
  if (given.plan.chunk !== null) emitChunked(emission, parts);
  return module;
}
