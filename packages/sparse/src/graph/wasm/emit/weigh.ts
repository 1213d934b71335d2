import type { Expression } from '@heed/core';
import { constantF32x4, instructions, minusInfinity, normalizeRow, sumOfLanes, type FunctionBuilder, type Local, type Place } from '@heed/runtime-wasm';
import { readWords, stateWords, type Callee, type Emission } from './context.ts';
import { EdgePlace, rowParameters, type RowLocals } from './edge-place.ts';

const { f32, f32x4, i32, v128 } = instructions;

interface EdgeWalk {
  readonly row: RowLocals;
  readonly count: Local<'i32'>;
  /** What is evaluated, so that parts which no edge changes are computed once. */
  readonly expressions: readonly Expression[];
}

/** Runs over the edges of a row, four at a time; `body` gets the place and the byte offset of the first in the row's strips. */
function overEdges(f: FunctionBuilder, emission: Emission, { row, count, expressions }: EdgeWalk, body: (place: Pick<Place, 'evaluate'>, offset: Local<'i32'>) => void): void {
  const offset = f.local('offset', 'i32');
  const isRead = expressions.some(({ kind }) => kind !== 'input');
  const edges = isRead ? new EdgePlace(f, emission, row, expressions) : null;
  f.for(offset, { to: i32.shl(count, 2), step: 16 }, () => {
    edges?.enter(offset);
    body(edges?.place ?? { evaluate: nothing }, offset);
  });
}

function nothing(): never {
  throw new RangeError('an expression is evaluated at its place');
}

/** settle(…, scores, count) → whether a score is −∞: the modifiers, in the order in which the variant lists them (L2). Null without modifiers. */
export function emitSettle(emission: Emission): Callee | null {
  const { module, request } = emission;
  const { modifiers } = request.variant.scoring;
  if (modifiers.length === 0) return null;
  return module.function('settle', { parameters: { ...rowParameters, scores: 'i32', count: 'i32' }, results: ['i32'], constantsOnce: true }, (f, { scores, count, ...row }) => {
    const isNone = f.local('isNone', 'v128');
    f.set(isNone, constantF32x4(0));
    overEdges(f, emission, { row, count, expressions: modifiers.map(({ expression }) => expression) }, (place, offset) => {
      const score = f.let('score', v128.load(i32.add(scores, offset)));
      for (const { expression } of modifiers) f.set(score, place.evaluate(expression, { score }));
      f.do(v128.store(i32.add(scores, offset), score));
      f.set(isNone, v128.or(isNone, f32x4.eq(score, minusInfinity())));
    });
    f.return(v128.any_true(isNone));
  });
}

/** True where weights need a strip of their own: what the normalization takes is not the score itself, or scores must be watched. */
export function needsTerms({ plan, request }: Pick<Emission, 'plan' | 'request'>): boolean {
  return plan.watchesScores || plan.observed.length > 0 || request.variant.normalization.rule.score.kind !== 'input';
}

/** terms(…, scores, weights, count, state): from final scores to what the normalization takes. NaN and +∞ among the scores leave NaN in the state (L1). */
export function emitTerms(emission: Emission): Callee {
  const { module, request } = emission;
  const { score: expression } = request.variant.normalization.rule;
  return module.function('terms', { parameters: { ...rowParameters, scores: 'i32', weights: 'i32', count: 'i32', state: 'i32' }, constantsOnce: true }, (f, { scores, weights, count, state, ...row }) => {
    const poison = f.local('poison', 'v128');
    f.set(poison, constantF32x4(0));
    overEdges(f, emission, { row, count, expressions: [expression] }, (place, offset) => {
      const score = f.let('score', v128.load(i32.add(scores, offset)));
      f.set(poison, f32x4.add(poison, f32x4.mul(score, constantF32x4(0))));
      f.do(v128.store(i32.add(weights, offset), expression.kind === 'input' ? score : place.evaluate(expression, { score })));
    });
    f.do(v128.store(state, poison, stateWords.poison));
  });
}

/** normalize(call, weights, count, state, sink): whole rows of terms to weights, in place. */
export function emitNormalize({ module, request, plan, layouts }: Emission): Callee {
  const { rule } = request.variant.normalization;
  return module.function('normalize', { parameters: { call: 'i32', weights: 'i32', count: 'i32', state: 'i32', sink: 'f32' }, constantsOnce: true }, (f, { call, weights, count, state, sink }) => {
    const bytes = f.let('bytes', i32.shl(count, 2));
    // Lanes behind the last edge bring nothing.
    const eachIsItsOwn = rule.kind === 'elementwise' || rule.kind === 'rowSum';
    f.do(v128.store(i32.add(weights, bytes), eachIsItsOwn ? constantF32x4(0) : minusInfinity()));
    const end = f.let('end', i32.add(weights, i32.and(i32.add(bytes, 15), -16)));
    if (plan.partial && rule.kind === 'rowSum') {
      const [place, sum] = [f.local('place', 'i32'), f.local('sum', 'v128')];
      f.set(sum, constantF32x4(0));
      f.for(place, { from: weights, to: end, step: 16, unsigned: true }, () => {
        f.set(sum, f32x4.add(sum, v128.load(place)));
      });
      f.do(v128.store(state, sum, stateWords.sum));
    }
    const epsilon = plan.partial ? null : f32.load(call, layouts.call.offset('epsilon'));
    normalizeRow(f, { address: weights, end, state }, { rule, arithmetic: plan.machine, stateWords, sink, epsilon });
    if (!plan.watchesScores) return;
    f.comment('NaN and +∞ among the scores make every weight NaN');
    const poison = f.let('poison', sumOfLanes(f.let('poisonLanes', v128.load(state, stateWords.poison))));
    f.if(f32.ne(poison, poison), () => {
      const place = f.local('poisoned', 'i32');
      f.for(place, { from: weights, to: end, step: 16, unsigned: true }, () => {
        f.do(v128.store(place, f32x4.splat(poison)));
      });
    });
  });
}

/** reweigh(…, weights, count): normalized weights to those that meet the values. */
export function emitReweigh(emission: Emission): Callee {
  const { module, request } = emission;
  const { reweigh } = request.variant.normalization;
  return module.function('reweigh', { parameters: { ...rowParameters, weights: 'i32', count: 'i32' }, constantsOnce: true }, (f, { weights, count, ...row }) => {
    overEdges(f, emission, { row, count, expressions: [reweigh] }, (place, offset) => {
      const weight = f.let('weight', v128.load(i32.add(weights, offset)));
      f.do(v128.store(i32.add(weights, offset), place.evaluate(reweigh, { weight })));
    });
  });
}

/** Logit of the head's sink, −∞ where there is none. */
export function sinkOf(f: FunctionBuilder, { layouts, request }: Emission, sequence: Local<'i32'>, head: Local<'i32'>): Local<'f32'> {
  const sink = f.local('sink', 'f32');
  f.set(sink, -Infinity);
  const { rule } = request.variant.normalization;
  if (rule.kind === 'softmax' && rule.sink !== null) {
    const { sinks } = readWords(f, sequence, layouts.sequence, ['sinks']);
    f.set(sink, f32.load(i32.add(sinks, i32.shl(head, 2))));
  }
  return sink;
}

