import { call as callTo, constantF32x4, exp, instructions, minusInfinity, type Value } from '@heed/runtime-wasm';
import { stateWords, valueRowBytes, word, type Callee, type Emission } from './context.ts';
import { readTask } from './prefill.ts';

const { f32x4, i32, i32x4, v128 } = instructions;

/** Bytes of one part's workspace: statistics, then sums. */
export const workspaceBytes = (plan: Emission['plan']): number => plan.partRows * (stateWords.bytes + valueRowBytes(plan));

/** mergeParts: a task is one key head; its parts are merged in order (L13), then finished. */
export function emitMergeParts(emission: Emission, finish: Callee, isSoftmax: boolean): void {
  const { module, plan, layouts } = emission;
  const lanes = { fused: plan.machine.fused };
  module.function('mergeParts', { parameters: { task: 'i32', call: 'i32', scratch: 'i32' }, export: true }, (f, { task, call, scratch: base }) => {
    const { record } = readTask(f, emission, task, call, base, 'merges');
    const { sequence, head: keyHead, rows: list, rowCount, workspace, splits } = record;
    const group = f.let('group', word(call, layouts.call.offset('group')));
    const total = f.let('total', i32.mul(group, rowCount));
    const sumsAt = plan.partRows * stateWords.bytes;
    const [row, split, place] = [f.local('row', 'i32'), f.local('split', 'i32'), f.local('place', 'i32')];
    f.for(row, { to: total }, () => {
      const state = f.let('state', i32.add(workspace, i32.mul(row, stateWords.bytes)));
      const sums = f.let('sums', i32.add(i32.add(workspace, sumsAt), i32.mul(row, valueRowBytes(plan))));
      const otherState = f.local('otherState', 'i32');
      const otherSums = f.local('otherSums', 'i32');
      f.for(split, { from: 1, to: splits }, () => {
        f.set(otherState, i32.add(state, i32.mul(split, workspaceBytes(plan))));
        f.set(otherSums, i32.add(sums, i32.mul(split, workspaceBytes(plan))));
        const [own, other] = [f.local('ownFactor', 'v128'), f.local('otherFactor', 'v128')];
        if (isSoftmax) {
          const [a, b] = [f.let('a', v128.load(state, stateWords.largest)), f.let('b', v128.load(otherState, stateWords.largest))];
          const largest = f.let('largest', f32x4.pmax(a, b));
          const origin = f.let('origin', v128.bitselect(constantF32x4(0), largest, f32x4.eq(largest, minusInfinity())));
          f.do(v128.store(state, largest, stateWords.largest));
          f.set(own, exp({ f, ...lanes }, f32x4.sub(a, origin)));
          f.set(other, exp({ f, ...lanes }, f32x4.sub(b, origin)));
        }
        const joined = (left: Value<'v128'>, right: Value<'v128'>): Value<'v128'> => (isSoftmax ? f32x4.add(f32x4.mul(left, own), f32x4.mul(right, other)) : f32x4.add(left, right));
        f.do(v128.store(state, joined(v128.load(state, stateWords.sum), v128.load(otherState, stateWords.sum)), stateWords.sum));
        f.do(v128.store(state, i32x4.add(v128.load(state, stateWords.count), v128.load(otherState, stateWords.count)), stateWords.count));
        f.do(v128.store(state, f32x4.add(v128.load(state, stateWords.poison), v128.load(otherState, stateWords.poison)), stateWords.poison));
        f.for(place, { to: valueRowBytes(plan), step: 16, atLeastOnce: true }, () => {
          const at = f.let('at', i32.add(sums, place));
          f.do(v128.store(at, joined(v128.load(at), v128.load(i32.add(otherSums, place)))));
        });
      });
    });
    const member = f.local('member', 'i32');
    f.for(member, { to: group, atLeastOnce: true }, () => {
      const first = f.let('firstRow', i32.mul(member, rowCount));
      f.do(callTo(finish, call, sequence, i32.add(i32.mul(keyHead, group), member), list, rowCount, i32.add(workspace, i32.mul(first, stateWords.bytes)), i32.add(i32.add(workspace, sumsAt), i32.mul(first, valueRowBytes(plan)))));
    });
  });
}
