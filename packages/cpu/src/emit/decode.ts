import type { FunctionBuilder, Local, Value } from '@heed/runtime-wasm';
import { call as callTo, constantF32x4, instructions, loadRow } from '@heed/runtime-wasm';
import { queryRowBytes, readWords, scoreRowBytes, stateWords, valueRowBytes, word, type Callee, type Emission } from './context.ts';
import { emitReadScores } from './decode-scores.ts';
import { emitReadValues } from './decode-values.ts';
import type { Guard } from './guard.ts';
import { emitMergeParts } from './merge-parts.ts';
import { rowAddress } from './pack.ts';
import { clearBlock, readTask } from './prefill.ts';

const { i32, v128 } = instructions;

export interface DecodeParts {
  readonly loadQueries: Callee;
  readonly weigh: Callee;
  readonly values: Callee;
  readonly guard: Guard;
  readonly finish: Callee;
}

/**
 * decode: a task is one part of the keys for one key head, and the few query rows of all heads that read it. Keys and values are read where they lie,
 * once for all of them; statistics and sums go to the workspace of the part.
 * mergeParts: a task is one key head; its parts are merged in order (L13), then finished.
 */
export function emitDecode(emission: Emission, parts: DecodeParts): void {
  const { module, plan, layouts, request } = emission;
  const isSoftmax = request.variant.normalization.rule.kind === 'softmax';
  const [readScoresOfOne, readScores] = [emitReadScores(emission, 1), emitReadScores(emission, 4)];
  const [readValuesOfOne, readValues] = [emitReadValues(emission, 1, isSoftmax), emitReadValues(emission, 4, isSoftmax)];
  module.function('decode', { parameters: { task: 'i32', call: 'i32', scratch: 'i32' }, export: true }, (f, { task, call, scratch: base }) => {
    const { record, scratch } = readTask(f, emission, task, call, base);
    const { sequence, head: keyHead, rows: list, rowCount } = record;
    const group = f.let('group', word(call, layouts.call.offset('group')));
    const firstHead = f.let('firstHead', i32.mul(keyHead, group));
    const total = f.let('total', i32.mul(group, rowCount));
    const fours = f.let('fours', i32.div_u(i32.add(total, 3), 4));
    const valueGroups = f.let('valueGroups', i32.div_u(i32.add(total, plan.valueRows - 1), plan.valueRows));
    const states = record.workspace;
    const sums = f.let('sums', i32.add(states, plan.partRows * stateWords.bytes));
    const [member, row] = [f.local('member', 'i32'), f.local('firstRow', 'i32')];
    const members = (body: () => void): void => {
      f.for(member, { to: group, atLeastOnce: true }, () => {
        f.set(row, i32.mul(member, rowCount));
        body();
      });
    };
    members(() => {
      f.do(callTo(parts.loadQueries, call, sequence, i32.add(firstHead, member), list, rowCount, scratch.rows, i32.add(scratch.queries, i32.mul(row, queryRowBytes(plan))), scratch.end));
    });
    clearBlock(f, emission, states, sums, scratch.factors, plan.partRows);
    const { lastKey } = readWords(f, sequence, layouts.sequence, ['lastKey']);
    const keyRowBytes = f.let('keyRowBytes', word(call, layouts.call.offset('key.row')));
    const valueBytes = f.let('valueRowBytes', word(call, layouts.call.offset('value.row')));
    const valueChannel = f.let('valueChannelBytes', word(call, layouts.call.offset('value.channel')));
    const [count, tile, target] = [f.local('count', 'i32'), f.let('tile', record.tiles), f.local('weightsAt', 'i32')];
    f.for(count, { to: record.tileCount }, () => {
      const { first, end, low, high, mixed } = readWords(f, tile, layouts.tile, ['first', 'end', 'low', 'high', 'mixed']);
      const width = f.let('width', i32.sub(end, first));
      const key = rowAddress(f, emission, 'key', call, sequence, keyHead, first);
      const value = rowAddress(f, emission, 'value', call, sequence, keyHead, first);
      const last = f.let('lastOfTile', i32.sub(lastKey, first));
      f.if(i32.eq(total, 1), () => {
        f.do(callTo(readScoresOfOne, scratch.queries, key, keyRowBytes, last, width, fours, scratch.scores));
      }, () => {
        f.do(callTo(readScores, scratch.queries, key, keyRowBytes, last, width, fours, scratch.scores));
      });
      f.set(target, scratch.scores);
      f.if(mixed, () => {
        copyValues(f, emission, { value, rowBytes: valueBytes, channelBytes: valueChannel, last: f.let('last', i32.sub(lastKey, first)), width, target: scratch.values });
        f.if(i32.eqz(callTo(parts.guard.isFinite, scratch.values, width) as Value<'i32'>), () => {
          f.set(target, scratch.weights);
        });
      });
      members(() => {
        const offset = f.let('offset', i32.mul(row, scoreRowBytes(plan)));
        f.do(callTo(parts.weigh, call, sequence, i32.add(firstHead, member), list, rowCount, scratch.end, first, width, low, high, mixed, i32.add(scratch.scores, offset), i32.add(target, offset), i32.add(states, i32.mul(row, stateWords.bytes)), i32.add(scratch.factors, i32.shl(row, 2))));
      });
      f.if(mixed, () => {
        f.if(i32.eq(target, scratch.scores), () => {
          f.do(callTo(parts.values, target, scratch.values, width, valueGroups, scratch.factors, sums));
        }, () => {
          // The copy without odd values stands behind the query tables' place, which this path does not use.
          f.do(callTo(parts.guard.guarded, scratch.scores, target, scratch.values, width, total, valueGroups, scratch.factors, sums, scratch.end));
        });
      }, () => {
        f.if(i32.eq(total, 1), () => {
          f.do(callTo(readValuesOfOne, target, value, valueBytes, width, 1, scratch.factors, sums));
        }, () => {
          f.do(callTo(readValues, target, value, valueBytes, width, fours, scratch.factors, sums));
        });
      });
      f.set(tile, i32.add(tile, layouts.tile.bytes));
    });
  });
  emitMergeParts(emission, parts.finish, isSoftmax);
}

interface TileCopy {
  readonly value: Local<'i32'>;
  readonly rowBytes: Local<'i32'>;
  readonly channelBytes: Local<'i32'>;
  readonly last: Local<'i32'>;
  readonly width: Local<'i32'>;
  readonly target: Local<'i32'>;
}

/** Value rows of a tile as packed rows, zeros past the last. */
function copyValues(f: FunctionBuilder, { plan, request }: Emission, { value, rowBytes, channelBytes, last, width, target }: TileCopy): void {
  const [row, source, place, part] = [f.local('copyRow', 'i32'), f.local('source', 'i32'), f.local('copyAt', 'i32'), f.local('part', 'i32')];
  f.for(row, { to: width }, () => {
    f.set(place, i32.add(target, i32.mul(row, valueRowBytes(plan))));
    f.for(part, { to: valueRowBytes(plan), step: 16, atLeastOnce: true }, () => {
      f.do(v128.store(i32.add(place, part), constantF32x4(0)));
    });
    f.if(i32.le_s(row, last), () => {
      f.set(source, i32.add(value, i32.mul(row, rowBytes)));
      loadRow(f, plan.dtypes.value, request.valueDim, source, channelBytes, place);
    });
  });
}
