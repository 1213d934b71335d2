import { call as callTo, instructions, type FunctionBuilder, type Local } from '@heed/runtime-wasm';
import { readWords, word, type Emission } from './context.ts';
import { enterTask } from './graph.ts';
import { enterRow, gatherRows, gatherValues, gathers, weighRow, type Parts } from './row.ts';
import { emitTouch, touchAhead } from './touch.ts';

const { i32, v128 } = instructions;

/**
 * weighNodes, then gatherNodes: the two passes of one head over all nodes. The first leaves each node's weights and the keys that they belong to where its
 * edges stand in the list, and how many there are; the second gathers the values.
 */
export function emitPasses(emission: Emission, parts: Parts): void {
  const { module, plan } = emission;
  const touchKeys = gathers(plan.dtypes.key, (storage) => emitTouch(emission, 'keys', storage));
  const touchValues = gathers(plan.dtypes.value, (storage) => emitTouch(emission, 'values', storage));
  module.function('weighNodes', { parameters: { task: 'i32', call: 'i32', scratch: 'i32' }, export: true }, (f, parameters) => {
    const { call } = parameters;
    const { sequence, keyHead, first, end, places } = enterTask(f, emission, parameters);
    const { head, keptKeys, keptWeights, keptCounts } = keptPlaces(f, emission, call);
    const row = f.local('row', 'i32');
    const list = f.let('list', word(call, emission.layouts.call.offset('edges')));
    const ahead = touchAhead(f, emission, { call, list, first, end }, (body) => {
      gatherRows(f, emission, 'keys', touchKeys, { call, sequence, keyHead }, body);
    });
    f.for(row, { from: first, to: end }, () => {
      const { from, to } = enterRow(f, emission, call, sequence, row);
      ahead.upTo(to);
      const count = weighRow(f, emission, parts, { call, sequence, keyHead, head, row, from, to, places }, (weights, weighed) => {
        if (parts.reweigh !== null) f.do(callTo(parts.reweigh, call, sequence, head, row, places.keys, places.edges, places.products, weights, weighed));
        const place = f.let('place', i32.shl(from, 2));
        keep(f, weighed, [[weights, f.let('weightsTo', i32.add(keptWeights, place))], [places.keys, f.let('keysTo', i32.add(keptKeys, place))]]);
      });
      f.do(i32.store(i32.add(keptCounts, i32.shl(row, 2)), count));
    });
  });
  module.function('gatherNodes', { parameters: { task: 'i32', call: 'i32', scratch: 'i32' }, export: true }, (f, parameters) => {
    const { call } = parameters;
    const { sequence, keyHead, first, end, places } = enterTask(f, emission, parameters);
    const { head, keptKeys, keptWeights, keptCounts } = keptPlaces(f, emission, call);
    const row = f.local('row', 'i32');
    const list = f.let('list', word(call, emission.layouts.call.offset('edges')));
    const ahead = touchAhead(f, emission, { call, list, first, end }, (body) => {
      gatherRows(f, emission, 'values', touchValues, { call, sequence, keyHead }, body);
    });
    f.for(row, { from: first, to: end }, () => {
      const { from, to } = enterRow(f, emission, call, sequence, row);
      ahead.upTo(to);
      const place = f.let('place', i32.shl(from, 2));
      const count = f.let('count', i32.load(i32.add(keptCounts, i32.shl(row, 2))));
      gatherValues(f, emission, parts, { call, sequence, keyHead, head, row, places }, { weights: f.let('weights', i32.add(keptWeights, place)), keys: f.let('keys', i32.add(keptKeys, place)), count });
    });
  });
}

/** Copies `count` numbers of each strip and not one more: behind them may stand what another thread has written. */
function keep(f: FunctionBuilder, count: Local<'i32'>, strips: readonly (readonly [from: Local<'i32'>, to: Local<'i32'>])[]): void {
  const offset = f.local('offset', 'i32');
  f.set(offset, 0);
  const whole = f.let('whole', i32.shl(i32.and(count, -4), 2));
  f.for(offset, { to: whole, step: 16 }, () => {
    for (const [from, to] of strips) f.do(v128.store(i32.add(to, offset), v128.load(i32.add(from, offset))));
  });
  f.for(offset, { from: whole, to: i32.shl(count, 2), step: 4 }, () => {
    for (const [from, to] of strips) f.do(i32.store(i32.add(to, offset), i32.load(i32.add(from, offset))));
  });
}

function keptPlaces(f: FunctionBuilder, { layouts }: Emission, call: Local<'i32'>): Readonly<Record<'head' | 'keptKeys' | 'keptWeights' | 'keptCounts', Local<'i32'>>> {
  return readWords(f, call, layouts.call, ['head', 'keptKeys', 'keptWeights', 'keptCounts']);
}
