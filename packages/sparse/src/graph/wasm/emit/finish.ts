import { constantF32x4, exp, instructions, laneNumbers, log, minusInfinity, Place, storeRow, sumOfLanes, type FunctionBuilder, type Local, type Value } from '@heed/runtime-wasm';
import { readWords, rowAddress, stateWords, surroundings, word, type Callee, type Emission } from './context.ts';

const { f32, f32x4, i32, i32x4, v128 } = instructions;

const rowParameters = { call: 'i32', sequence: 'i32', head: 'i32', row: 'i32', count: 'i32' } as const;

type RowLocals = Readonly<Record<keyof typeof rowParameters, Local<'i32'>>>;

/** statistics(…, state, sink): logSumExp of a row, or what partial results keep of it. Null where there is neither. */
export function emitStatistics(emission: Emission): Callee | null {
  const { module, request, plan } = emission;
  const isSoftmax = request.variant.normalization.rule.kind === 'softmax';
  if (!isSoftmax && !plan.partial) return null;
  return module.function('statistics', { parameters: { ...rowParameters, state: 'i32', sink: 'f32' }, constantsOnce: true }, (f, { state, sink, ...row }) => {
    if (isSoftmax) storeLogSumExp(f, emission, row, state, sink);
    else storeCounts(f, emission, row, state);
  });
}

/** ln Σ e^score of the row, the sink included (L5); the sink alone for an empty row. */
function storeLogSumExp(f: FunctionBuilder, emission: Emission, row: RowLocals, state: Local<'i32'>, sink: Local<'f32'>): void {
  const { plan, request } = emission;
  const value = f.let('logSumExp', sink);
  f.if(row.count, () => {
    const lanes = { f, ...plan.machine };
    const origin = f.let('origin', v128.load(state, stateWords.largest));
    const own = f32x4.splat(sumOfLanes(f.let('sum', v128.load(state, stateWords.sum))));
    const { rule } = request.variant.normalization;
    const whole = rule.kind === 'softmax' && rule.sink !== null ? f32x4.add(own, exp(lanes, f32x4.sub(f32x4.splat(sink), origin))) : own;
    f.set(value, f32x4.extract_lane(f32x4.add(origin, log(lanes, whole)), 0));
    if (plan.watchesScores) f.set(value, f32.add(value, sumOfLanes(f.let('poison', v128.load(state, stateWords.poison)))));
  });
  f.do(f32.store(logSumExpAddress(f, emission, row), value));
}

function logSumExpAddress(f: FunctionBuilder, { layouts }: Emission, { call, sequence, head, row }: RowLocals): Local<'i32'> {
  const at = (part: string): Value<'i32'> => word(call, layouts.call.offset(part));
  const batch = i32.mul(word(sequence, layouts.sequence.offset('tensorBatch')), at('logSumExp.batch'));
  return f.let('logSumExpAt', i32.add(i32.add(at('logSumExp'), batch), i32.add(i32.mul(head, at('logSumExp.head')), i32.mul(row, at('logSumExp.row')))));
}

/** Edges that count, and the sum of their terms, at [batch, heads, queryRows]. */
function storeCounts(f: FunctionBuilder, { layouts, request }: Emission, { call, sequence, head, row, count }: RowLocals, state: Local<'i32'>): void {
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

/** finish(…, sums): from the sums of one row to the output: the aggregation's `finish`, and conversion. A row without edges that count is 0 (L1). */
export function emitFinish(emission: Emission): Callee {
  const { module, request, plan, layouts } = emission;
  const { finish, reduction } = request.variant.aggregation;
  const isSoftmax = request.variant.normalization.rule.kind === 'softmax';
  return module.function('finish', { parameters: { ...rowParameters, sums: 'i32' }, constantsOnce: true }, (f, { sums, ...at }) => {
    const { call, sequence, head, row, count } = at;
    const [channel, last] = [f.local('channel', 'i32'), f.let('lastChannel', i32.sub(plan.valueDim, 1))];
    f.if(count, () => {
      const { batch, queryLength, keyLength, queryPositions } = readWords(f, sequence, layouts.sequence, ['batch', 'queryLength', 'keyLength', 'queryPositions']);
      // A partial logarithm of values is not divided by the row's sum.
      const added = plan.partial && isSoftmax && reduction === 'logSumExp' ? f.let('added', v128.load32_splat(logSumExpAddress(f, emission, at))) : null;
      if (added === null && finish.kind === 'input') return;
      f.for(channel, { to: plan.valueDim, step: 4, atLeastOnce: true }, () => {
        const place = f.let('place', i32.add(sums, i32.shl(channel, 2)));
        const output = f.let('output', v128.load(place));
        if (added !== null) f.set(output, f32x4.add(output, added));
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
