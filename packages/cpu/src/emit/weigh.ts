import type { FunctionBuilder } from '@heed/runtime-wasm';
import { instructions, minusInfinity } from '@heed/runtime-wasm';
import { stateWords, type Callee, type Emission } from './context.ts';
import { finalScore, type KeyBounds } from './pairs.ts';
import { softmaxRows } from './softmax.ts';
import { overBounds, overPairs, watch, weighParameters, type WeighLocals } from './tile-walk.ts';

const { f32x4, v128 } = instructions;

/**
 * weigh(…): from a tile of raw scores to weights, with the running statistics brought up to date.
 * softmax: weights are e^(score − largest so far); `factors` say by how much earlier sums shrink.
 * Scores stay in place where they are wanted beside the weights (`target` elsewhere), with −∞ at keys that do not count.
 */
export function emitWeigh(emission: Emission): Callee {
  const { rule } = emission.request.variant.normalization;
  return emission.module.function('weigh', { parameters: weighParameters, constantsOnce: true }, (f, locals) => {
    if (rule.kind === 'softmax') softmaxRows(f, emission, locals);
    else overBounds(f, locals, (bounds) => {
      termRows(f, emission, locals, bounds);
    });
  });
}

/** Weights that each follow from their own score; rowSum adds them up besides. */
function termRows(f: FunctionBuilder, emission: Emission, locals: WeighLocals, bounds: KeyBounds | null): void {
  const { rule, reweigh } = emission.request.variant.normalization;
  overPairs(f, emission, locals, ({ pairs, key, from, to, state }) => {
    const final = finalScore(f, emission, pairs, key, v128.load(from), bounds);
    const kept = f.let('kept', f32x4.ne(final, minusInfinity()));
    watch(f, state, final, kept, true);
    f.do(v128.store(from, final));
    const term = f.let('term', v128.and(pairs.place.evaluate(rule.score, { score: final }), kept));
    if (rule.kind === 'rowSum') f.do(v128.store(state, f32x4.add(v128.load(state, stateWords.sum), term), stateWords.sum));
    if (reweigh.kind !== 'input') f.set(term, v128.and(pairs.place.evaluate(reweigh, { weight: term }), kept));
    f.do(v128.store(to, term));
  });
}
