import type { ObservedStage } from '@heed/core';
import { instructions, type FunctionBuilder, type Local } from '@heed/runtime-wasm';
import { stageWord } from '../plan/layouts.ts';
import { readWords, word, type Emission } from './context.ts';
import { enterRow, scratchPlaces, weighRow, type Parts } from './row.ts';

const { f32, i32 } = instructions;

/**
 * observe: a task is one head, whose chosen rows are walked in order, so that the weights of a key are added in one order. Scores that count and weights go to
 * the places of their keys; the host has filled the rest.
 */
export function emitObserve(emission: Emission, parts: Parts): void {
  const { module, layouts, plan } = emission;
  module.function('observe', { parameters: { task: 'i32', call: 'i32', scratch: 'i32' }, export: true }, (f, { task, call, scratch }) => {
    const record = f.let('taskRecord', i32.add(word(call, layouts.call.offset('tasks')), i32.mul(task, layouts.observation.bytes)));
    const { sequence, head, rows, rowCount, observed, mass } = readWords(f, record, layouts.observation, ['sequence', 'head', 'rows', 'rowCount', 'observed', 'mass']);
    const keyHead = f.let('keyHead', i32.div_u(head, word(call, layouts.call.offset('group'))));
    const rowBytes = f.let('rowBytes', word(call, layouts.call.offset('observed.row')));
    const places = scratchPlaces(f, emission, call, scratch);
    const [index, row] = [f.local('index', 'i32'), f.local('row', 'i32')];
    f.for(index, { to: rowCount }, () => {
      f.set(row, i32.load(i32.add(rows, i32.shl(index, 2))));
      const { from, to } = enterRow(f, emission, call, sequence, row);
      const stageAt = (stage: ObservedStage): Local<'i32'> => f.let(`${stage}At`, i32.add(i32.add(word(call, layouts.call.offset(stageWord(stage))), observed), i32.mul(index, rowBytes)));
      weighRow(f, emission, parts, { call, sequence, keyHead, head, row, from, to, places }, (weights, count) => {
        if (plan.observed.includes('masked')) {
          const target = stageAt('masked');
          overEdges(f, places.keys, count, (key, offset) => {
            f.do(f32.store(i32.add(target, key), f32.load(i32.add(places.scores, offset))));
          });
        }
        if (!plan.observed.includes('weights') && !plan.observesMass) return;
        const target = plan.observed.includes('weights') ? stageAt('weights') : null;
        overEdges(f, places.keys, count, (key, offset) => {
          const weight = f.let('weight', f32.load(i32.add(weights, offset)));
          if (target !== null) f.do(f32.store(i32.add(target, key), weight));
          if (!plan.observesMass) return;
          const at = f.let('massAt', i32.add(mass, key));
          f.do(f32.store(at, f32.add(f32.load(at), weight)));
        });
      });
    });
  });
}

/** `body` gets four times the key of each edge, and the byte offset of the edge in the row's strips. */
function overEdges(f: FunctionBuilder, keys: Local<'i32'>, count: Local<'i32'>, body: (key: Local<'i32'>, offset: Local<'i32'>) => void): void {
  const offset = f.local('offset', 'i32');
  f.for(offset, { to: i32.shl(count, 2), step: 4 }, () => {
    body(f.let('keyPlace', i32.shl(i32.load(i32.add(keys, offset)), 2)), offset);
  });
}
