import { constantF32x4, exp, instructions, laneNumbers, log, minusInfinity, Place, storeRow, sumOfLanes, type FunctionBuilder, type Local, type Value } from '@heed/runtime-wasm';
import { readWords, rowAddress, stateWords, surroundings, word, type Callee, type Emission } from './context.ts';

const { f32, f32x4, i32, i32x4, v128 } = instructions;

const parameters = { call: 'i32', sequence: 'i32', head: 'i32', row: 'i32', count: 'i32', state: 'i32', sink: 'f32', sums: 'i32' } as const;

type FinishLocals = Readonly<Record<Exclude<keyof typeof parameters, 'sink'>, Local<'i32'>>> & { readonly sink: Local<'f32'> };

/**
 * finish(…): from the sums and the state of one row to the output: the aggregation's `finish`, conversion, logSumExp or statistics. A row without edges that
 * count is 0 (L1).
 */
export function emitFinish(emission: Emission): Callee {
  const { module, request, plan, layouts } = emission;
  const { finish, reduction } = request.variant.aggregation;
  const { rule } = request.variant.normalization;
  return module.function('finish', { parameters, constantsOnce: true }, (f, locals) => {
    const { call, sequence, head, row, count, state, sums } = locals;
    const poison = f.let('poison', sumOfLanes(f.let('poisonLanes', v128.load(state, stateWords.poison))));
    const logarithm = rule.kind === 'softmax' ? storeLogSumExp(f, emission, locals, poison) : null;
    if (plan.partial && rule.kind !== 'softmax') storeStatistics(f, emission, locals);
    const [channel, last] = [f.local('channel', 'i32'), f.let('lastChannel', i32.sub(plan.valueDim, 1))];
    f.if(count, () => {
      const { batch, queryLength, keyLength, queryPositions } = readWords(f, sequence, layouts.sequence, ['batch', 'queryLength', 'keyLength', 'queryPositions']);
      const added = f.let('added', f32x4.splat(poison));
      // A partial logarithm of values is not divided by the row's sum.
      if (logarithm !== null && plan.partial && reduction === 'logSumExp') f.set(added, f32x4.add(added, f32x4.splat(logarithm)));
      f.for(channel, { to: plan.valueDim, step: 4, atLeastOnce: true }, () => {
        const place = f.let('place', i32.add(sums, i32.shl(channel, 2)));
        const output = f.let('output', f32x4.add(v128.load(place), added));
        if (finish.kind !== 'input') {
          const here = new Place(f, surroundings(emission, call), {
            inputs: {
              output, channel: f.let('channels', i32x4.add(i32x4.splat(channel), laneNumbers())), batch, head, keyHead: f.let('keyHead', i32.div_u(head, word(call, layouts.call.offset('group')))),
              queryIndex: row, queryPosition: f.let('queryPosition', i32.load(i32.add(queryPositions, i32.shl(row, 2)))), queryLength, keyLength,
            },
            fixed: [],
            lanes: { input: 'channel', first: channel, last },
          });
          f.set(output, here.evaluate(finish));
        }
        f.do(v128.store(place, output));
      });
    }, () => {
      f.for(channel, { to: plan.valueDim, step: 4, atLeastOnce: true }, () => {
        f.do(v128.store(i32.add(sums, i32.shl(channel, 2)), plan.partial && reduction !== 'sum' ? minusInfinity() : constantF32x4(0)));
      });
    });
    storeRow(f, plan.dtypes.output, plan.valueDim, sums, rowAddress(f, emission, 'output', call, sequence, head, row), f.let('channelBytes', word(call, layouts.call.offset('output.channel'))));
  });
}

/** ln Σ e^score of the row, the sink included (L5); the sink alone for an empty row. */
function storeLogSumExp(f: FunctionBuilder, { plan, layouts }: Emission, { call, sequence, head, row, count, state, sink }: FinishLocals, poison: Local<'f32'>): Local<'f32'> {
  const value = f.let('logSumExp', sink);
  f.if(count, () => {
    const lanes = { f, ...plan.machine };
    const origin = f.let('origin', v128.load(state, stateWords.largest));
    const sum = f.let('sum', v128.load(state, stateWords.sum));
    const own = f32x4.splat(sumOfLanes(sum));
    const whole = f32x4.add(own, exp(lanes, f32x4.sub(f32x4.splat(sink), origin)));
    f.set(value, f32.add(f32x4.extract_lane(f32x4.add(origin, log(lanes, whole)), 0), poison));
  });
  const at = (part: string): Value<'i32'> => word(call, layouts.call.offset(part));
  const batch = i32.mul(word(sequence, layouts.sequence.offset('tensorBatch')), at('logSumExp.batch'));
  const place = i32.add(i32.add(at('logSumExp'), batch), i32.add(i32.mul(head, at('logSumExp.head')), i32.mul(row, at('logSumExp.row'))));
  f.do(f32.store(place, value));
  return value;
}

/** Edges that count, and the sum of their terms, at [batch, heads, queryRows]. */
function storeStatistics(f: FunctionBuilder, { layouts, request }: Emission, { call, sequence, head, row, count, state }: FinishLocals): void {
  const at = (name: string): Value<'i32'> => word(call, layouts.call.offset(name));
  const rows = i32.mul(i32.add(i32.mul(word(sequence, layouts.sequence.offset('tensorBatch')), at('heads')), head), at('queryRows'));
  const place = f.let('statistics', i32.shl(i32.add(rows, row), 2));
  f.do(f32.store(i32.add(at('count'), place), f32.convert_i32_s(count)));
  if (request.variant.normalization.rule.kind !== 'rowSum') return;
  const sum = f.local('denominator', 'f32');
  f.set(sum, 0);
  f.if(count, () => {
    f.set(sum, sumOfLanes(f.let('sum', v128.load(state, stateWords.sum))));
  });
  f.do(f32.store(i32.add(at('denominator'), place), sum));
}
