import type { FunctionBuilder, Local } from '@heed/runtime-wasm';
import { call as callTo, constantF32x4, instructions, minusInfinity } from '@heed/runtime-wasm';
import { panelBytes, queryRowBytes, readWords, scratchOf, stateWords, valueRowBytes, word, type Callee, type Emission } from './context.ts';
import type { Guard } from './guard.ts';

const { f32, i32, v128 } = instructions;

/** The parts that one block of queries goes through. */
export interface Parts {
  readonly loadQueries: Callee;
  readonly scores: Callee;
  readonly weigh: Callee;
  readonly values: Callee;
  readonly guard: Guard;
  readonly finish: Callee;
}

/** Locals of a task: its record, its thread's scratch by name, and where keys and values of its head lie. */
export interface Task {
  readonly record: Readonly<Record<'sequence' | 'head' | 'rows' | 'rowCount' | 'tiles' | 'tileCount' | 'next' | 'observed' | 'mass' | 'workspace' | 'splits', Local<'i32'>>>;
  readonly scratch: Readonly<Record<keyof ReturnType<typeof scratchOf>, Local<'i32'>>>;
  readonly keys: Local<'i32'>;
  readonly values: Local<'i32'>;
}

/** @param list the call's word that says where the records of these tasks begin */
export function readTask(f: FunctionBuilder, { plan, layouts }: Emission, task: Local<'i32'>, call: Local<'i32'>, base: Local<'i32'>, list: 'tasks' | 'merges' = 'tasks'): Task {
  const address = f.let('taskRecord', i32.add(word(call, layouts.call.offset(list)), i32.mul(task, layouts.task.bytes)));
  const record = readWords(f, address, layouts.task, ['sequence', 'head', 'rows', 'rowCount', 'tiles', 'tileCount', 'next', 'observed', 'mass', 'workspace', 'splits']);
  const keyHead = f.let('keyHead', i32.div_u(record.head, word(call, layouts.call.offset('group'))));
  const workspace = f.let('workspaceStart', word(call, layouts.call.offset('workspace')));
  f.set(record.workspace, i32.add(record.workspace, workspace));
  const of = (name: 'keys' | 'values'): Local<'i32'> => f.let(name, i32.add(i32.add(workspace, word(record.sequence, layouts.sequence.offset(name))), i32.mul(keyHead, word(record.sequence, layouts.sequence.offset(`${name}.head`)))));
  const offsets: readonly (readonly [string, number])[] = Object.entries({ ...scratchOf(plan) });
  const scratch = Object.fromEntries(offsets.map(([name, offset]) => [name, f.let(`scratch.${name}`, i32.add(base, offset))]));
  return { record, scratch: scratch as Task['scratch'], keys: of('keys'), values: of('values') };
}

/** Fresh statistics and sums. */
export function clearBlock(f: FunctionBuilder, { plan }: Emission, states: Local<'i32'>, sums: Local<'i32'>, factors: Local<'i32'>, rows: number = plan.blockQuery): void {
  const place = f.local('place', 'i32');
  f.for(place, { to: rows * stateWords.bytes, step: stateWords.bytes, atLeastOnce: true }, () => {
    const state = f.let('state', i32.add(states, place));
    f.do(v128.store(state, minusInfinity(), stateWords.largest));
    for (const offset of [stateWords.sum, stateWords.count, stateWords.poison]) f.do(v128.store(state, constantF32x4(0), offset));
  });
  f.for(place, { to: rows * valueRowBytes(plan), step: 16, atLeastOnce: true }, () => {
    f.do(v128.store(i32.add(sums, place), constantF32x4(0)));
  });
  f.for(place, { to: rows * 4, step: 4, atLeastOnce: true }, () => {
    f.do(f32.store(i32.add(factors, place), 1));
  });
}

/** Address of the panel that begins with key `first`, a multiple of the panel's columns. */
export const panelAt = ({ plan }: Emission, keys: Local<'i32'>, first: Local<'i32'>): ReturnType<typeof word> => i32.add(keys, i32.mul(i32.div_u(first, plan.tile.columns), panelBytes(plan)));

/**
 * prefill: one task is one block of query rows of one head. It walks once over the tiles of keys that the mask leaves:
 *   scores → weights with running statistics → sums of values; at the end the output.
 */
export function emitPrefill(emission: Emission, parts: Parts): void {
  const { module, plan, layouts } = emission;
  module.function('prefill', { parameters: { task: 'i32', call: 'i32', scratch: 'i32' }, export: true }, (f, { task, call, scratch: base }) => {
    const { record, scratch, keys, values } = readTask(f, emission, task, call, base);
    const { sequence, head, rows, rowCount } = record;
    f.do(callTo(parts.loadQueries, call, sequence, head, rows, rowCount, scratch.rows, scratch.queries, scratch.end));
    clearBlock(f, emission, scratch.states, scratch.sums, scratch.factors);
    const [count, tile, target] = [f.local('count', 'i32'), f.let('tile', record.tiles), f.local('weightsAt', 'i32')];
    f.for(count, { to: record.tileCount }, () => {
      const { first, end, low, high, mixed, rowFrom, rowTo } = readWords(f, tile, layouts.tile, ['first', 'end', 'low', 'high', 'mixed', 'rowFrom', 'rowTo']);
      const width = f.let('width', i32.sub(end, first));
      const value = f.let('value', i32.add(values, i32.mul(first, valueRowBytes(plan))));
      f.comment('the rows that see any of it');
      f.if(i32.gt_s(rowTo, rowCount), () => {
        f.set(rowTo, rowCount);
      });
      const seeing = f.let('seeing', i32.sub(rowTo, rowFrom));
      const groups = f.let('groups', i32.div_u(i32.add(seeing, plan.tile.rows - 1), plan.tile.rows));
      const valueGroups = f.let('valueGroups', i32.div_u(i32.add(seeing, plan.valueRows - 1), plan.valueRows));
      const of = (name: string, start: Local<'i32'>, bytes: number): Local<'i32'> => f.let(name, i32.add(start, i32.mul(rowFrom, bytes)));
      const ownRows = of('ownRows', rows, 4);
      const [states, factors, sums] = [of('ownStates', scratch.states, stateWords.bytes), of('ownFactors', scratch.factors, 4), of('ownSums', scratch.sums, valueRowBytes(plan))];
      f.do(callTo(parts.scores, call, sequence, head, of('ownQueries', scratch.queries, queryRowBytes(plan)), panelAt(emission, keys, first), width, groups, scratch.scores));
      f.set(target, scratch.scores);
      f.if(mixed, () => {
        f.if(i32.eqz(callTo(parts.guard.isFinite, value, width) as ReturnType<typeof word> | ReturnType<typeof callTo<readonly 'i32'[], 'i32'>>), () => {
          f.set(target, scratch.weights);
        });
      });
      f.do(callTo(parts.weigh, call, sequence, head, ownRows, seeing, scratch.end, first, width, low, high, mixed, scratch.scores, target, states, factors));
      f.if(i32.eq(target, scratch.scores), () => {
        f.do(callTo(parts.values, target, value, width, valueGroups, factors, sums));
      }, () => {
        f.do(callTo(parts.guard.guarded, scratch.scores, target, value, width, seeing, valueGroups, factors, sums, scratch.values));
      });
      f.set(tile, i32.add(tile, layouts.tile.bytes));
    });
    f.do(callTo(parts.finish, call, sequence, head, rows, rowCount, scratch.states, scratch.sums));
  });
}
