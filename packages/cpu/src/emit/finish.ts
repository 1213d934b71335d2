import type { FunctionBuilder, Local } from '@heed/runtime-wasm';
import { constantF32x4, exp, instructions, laneNumbers, log, minusInfinity, Place, select, storageBytes, storeFloats, storeRow, sumOfLanes } from '@heed/runtime-wasm';
import { readWords, stateWords, surroundings, valueRowBytes, word, type Callee, type Emission } from './context.ts';
import { rowAddress } from './pack.ts';

const { f32, f32x4, i32, i32x4, v128 } = instructions;

/**
 * finish(…): from sums and statistics of a block's rows to the output: the sink, the division, the aggregation's `finish`, conversion, and logSumExp.
 * A row that saw no key is 0 (L1).
 */
export function emitFinish(emission: Emission): Callee {
  const { module, request, plan, layouts } = emission;
  const { rule } = request.variant.normalization;
  const { finish, reduction } = request.variant.aggregation;
  const lanes = (f: FunctionBuilder): { readonly f: FunctionBuilder; readonly fused: boolean } => ({ f, fused: plan.machine.fused });
  const parameters = { call: 'i32', sequence: 'i32', head: 'i32', rows: 'i32', rowCount: 'i32', states: 'i32', sums: 'i32' } as const;
  return module.function('finish', { parameters, constantsOnce: true }, (f, { call, sequence, head, rows, rowCount, states, sums }) => {
    const { batch, queryLength, keyLength, queryPositions, sinks, tensorBatch, queryStart } = readWords(f, sequence, layouts.sequence, ['batch', 'queryLength', 'keyLength', 'queryPositions', 'sinks', 'tensorBatch', 'queryStart']);
    const keyHead = f.let('keyHead', i32.div_u(head, word(call, layouts.call.offset('group'))));
    const [row, index, source, state] = [f.local('row', 'i32'), f.local('index', 'i32'), f.let('source', sums), f.let('state', states)];
    const [factor, shift, isEmpty, added] = [f.local('factor', 'v128'), f.local('shift', 'v128'), f.local('isEmpty', 'i32'), f.local('added', 'f32')];
    const [channel, last] = [f.local('channel', 'i32'), f.let('lastChannel', i32.sub(plan.valueDim, 1))];
    f.for(row, { to: rowCount, atLeastOnce: true }, () => {
      f.set(index, i32.load(i32.add(rows, i32.shl(row, 2))));
      if (plan.watchesScores) f.set(added, sumOfLanes(f.let('poison', v128.load(state, stateWords.poison))));
      const sum = f.let('sum', v128.load(state, stateWords.sum));
      const total = f.let('total', sumOfLanes(sum));
      if (rule.kind === 'softmax') {
        if (plan.countsKeys) f.set(isEmpty, i32.eqz(v128.any_true(v128.load(state, stateWords.count))));
        else f.set(isEmpty, f32.eq(total, 0));
        // Without a sink the largest score is where the sum was taken from.
        const sink = f.let('sink', rule.sink === null ? minusInfinity() : v128.load32_splat(i32.add(sinks, i32.shl(head, 2))));
        const largest = f.let('largest', v128.load(state, stateWords.largest));
        const origin = f.let('origin', rule.sink === null ? largest : f32x4.pmax(largest, sink));
        f.set(origin, v128.bitselect(constantF32x4(0), origin, f32x4.eq(origin, minusInfinity())));
        const whole = f.let('whole', f32x4.splat(total));
        if (rule.sink === null) f.set(factor, f32x4.div(constantF32x4(1), whole));
        else {
          const own = f.let('own', exp(lanes(f), f32x4.sub(largest, origin)));
          f.set(whole, f32x4.add(f32x4.mul(whole, own), exp(lanes(f), f32x4.sub(sink, origin))));
          f.set(factor, f32x4.div(own, whole));
        }
        const logarithm = f.let('logarithm', f32x4.add(origin, log(lanes(f), whole)));
        const at = (part: string): ReturnType<typeof word> => word(call, layouts.call.offset(part));
        const place = i32.add(i32.add(at('logSumExp'), i32.mul(tensorBatch, at('logSumExp.batch'))), i32.add(i32.mul(head, at('logSumExp.head')), i32.mul(i32.add(queryStart, index), at('logSumExp.row'))));
        const value = f.let('logSumExp', f32x4.extract_lane(logarithm, 0));
        if (plan.watchesScores) f.set(value, f32.add(value, added));
        f.set(value, select(f.let('sinkLogit', f32x4.extract_lane(sink, 0)), value, isEmpty));
        f.do(f32.store(place, value));
        f.set(shift, f32x4.splat(value));
      } else {
        const counts = f.let('counts', v128.load(state, stateWords.count));
        f.set(isEmpty, i32.eqz(v128.any_true(counts)));
        if (rule.kind === 'rowSum' && plan.path === 'online' && !plan.partial) f.set(factor, f32x4.div(constantF32x4(1), f32x4.splat(f32.add(total, f32.load(call, layouts.call.offset('epsilon'))))));
      }
      if (plan.partial && rule.kind !== 'softmax') storeStatistics(f, emission, { call, row: f.let('statisticsRow', statisticsRow(f, emission, call, sequence, head, index)), state, total });
      const emptyLanes = f.let('emptyLanes', i32x4.splat(i32.sub(0, isEmpty)));
      /** Four channels from the local `channel` on, `offset` channels further. */
      const finished = (offset: number): Local<'v128'> => {
        const output = f.let('output', v128.load(i32.add(source, i32.shl(channel, 2)), offset * 4));
        // Weights of whole rows are divided already.
        if (plan.path === 'online' && (rule.kind === 'softmax' || (rule.kind === 'rowSum' && !plan.partial))) f.set(output, f32x4.mul(output, factor));
        if (plan.watchesScores) f.set(output, f32x4.add(output, f32x4.splat(added)));
        if (finish.kind !== 'input') {
          const queryPosition = f.let('queryPosition', i32.load(i32.add(queryPositions, i32.shl(index, 2))));
          const channels = f.let('channels', i32x4.add(i32x4.splat(channel), laneNumbers()));
          const here = new Place(f, surroundings(emission, call), {
            inputs: { output, channel: channels, batch, head, keyHead, queryIndex: index, queryPosition, queryLength, keyLength },
            fixed: [],
            lanes: { input: 'channel', first: channel, last },
          });
          f.set(output, here.evaluate(finish));
        }
        if (plan.partial && rule.kind === 'softmax' && reduction === 'logSumExp') f.set(output, f32x4.add(output, shift));
        const none = plan.partial && reduction !== 'sum' ? minusInfinity() : constantF32x4(0);
        f.set(output, v128.bitselect(none, output, emptyLanes));
        return output;
      };
      const target = rowAddress(f, emission, 'output', call, sequence, head, index);
      const channelBytes = f.let('channelBytes', word(call, layouts.call.offset('output.channel')));
      const throughScratch = (): void => {
        f.for(channel, { to: plan.valueDim, step: 4, atLeastOnce: true }, () => {
          f.do(v128.store(i32.add(source, i32.shl(channel, 2)), finished(0)));
        });
        storeRow(f, plan.dtypes.output, plan.valueDim, source, target, channelBytes);
      };
      // Neighbouring channels in whole vectors go straight to their place.
      const bytes = storageBytes[plan.dtypes.output];
      const unroll = finish.kind === 'input' && plan.valueDim % 16 === 0 ? 4 : 1;
      if (plan.valueDim % 4 !== 0) throughScratch();
      else f.if(i32.eq(channelBytes, bytes), () => {
        f.for(channel, { to: plan.valueDim, step: 4 * unroll, atLeastOnce: true }, () => {
          for (let part = 0; part < unroll; part += 1) {
            const output = finished(part * 4);
            storeFloats(f, plan.dtypes.output, f.let('outputAt', i32.add(target, i32.mul(i32.add(channel, part * 4), bytes))), output);
          }
        });
      }, throughScratch);
      f.set(source, i32.add(source, valueRowBytes(plan)));
      f.set(state, i32.add(state, stateWords.bytes));
    });
  });
}


/** Number of a query row in the dense [batch, heads, queryRows]. */
function statisticsRow(f: FunctionBuilder, { layouts }: Emission, call: Local<'i32'>, sequence: Local<'i32'>, head: Local<'i32'>, index: Local<'i32'>): ReturnType<typeof i32.add> {
  const { tensorBatch, queryStart } = readWords(f, sequence, layouts.sequence, ['tensorBatch', 'queryStart']);
  const heads = word(call, layouts.call.offset('heads'));
  const rows = word(call, layouts.call.offset('queryRows'));
  return i32.add(i32.mul(i32.add(i32.mul(tensorBatch, heads), head), rows), i32.add(queryStart, index));
}

/** Keys that count, and the sum of their terms, as float32. */
function storeStatistics(f: FunctionBuilder, { layouts }: Emission, { call, row, state, total }: { readonly call: Local<'i32'>; readonly row: Local<'i32'>; readonly state: Local<'i32'>; readonly total: Local<'f32'> }): void {
  const counts = f.let('countLanes', f32x4.convert_i32x4_s(v128.load(state, stateWords.count)));
  const place = f.let('statistics', i32.shl(row, 2));
  f.do(f32.store(i32.add(word(call, layouts.call.offset('count')), place), sumOfLanes(counts)));
  f.do(f32.store(i32.add(word(call, layouts.call.offset('denominator')), place), total));
}
