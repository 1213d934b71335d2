import { instructions, normalizeRow } from '@heed/runtime-wasm';
import { stateWords, type Callee, type Emission } from './context.ts';

const { f32, i32 } = instructions;

/**
 * normalizeRow(terms, bytes, state, sink): a whole row of terms to weights, in place. Keys that do not count hold −∞ before (0 where each weight is its own term),
 * and 0 after. For softmax the state gets the origin and the sum around it.
 */
export function emitNormalizeRow({ module, request, plan, layouts }: Emission): Callee {
  const { rule } = request.variant.normalization;
  return module.function('normalizeRow', { constantsOnce: true, parameters: { call: 'i32', terms: 'i32', bytes: 'i32', state: 'i32', sink: 'f32' } }, (f, { call, terms, bytes, state, sink }) => {
    const epsilon = plan.partial ? null : f32.load(call, layouts.call.offset('epsilon'));
    normalizeRow(f, { address: terms, end: f.let('end', i32.add(terms, bytes)), state }, { rule, arithmetic: plan.machine, stateWords, sink, epsilon });
  });
}
