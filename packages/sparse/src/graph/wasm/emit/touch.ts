import { call as callTo, instructions, storageBytes, type FloatStorage, type FunctionBuilder, type Local } from '@heed/runtime-wasm';
import { word, type Callee, type Emission } from './context.ts';

const { i32 } = instructions;

/** Bytes of a cache line. */
const line = 64;

/** Rows are read ahead in runs of edges: few enough for the first cache, so many that reading them ahead is a walk of its own. */
const edgesAhead = 64;

/** Reads rows ahead of those who gather them. */
export interface Touch {
  /** Before a row whose edges end at `to`: what stands there already, or is read now. */
  readonly upTo: (to: Local<'i32'>) => void;
}

/**
 * touch(list, count, rows, rowBytes): reads one byte of every cache line of the rows of `count` edges. Sums between loads keep only few lines on their way from memory; a
 * walk that does nothing else keeps as many as there can be, and the rows then wait in a nearer cache.
 */
export function emitTouch({ module, plan }: Emission, side: 'keys' | 'values', storage: FloatStorage): Callee {
  const bytes = storageBytes[storage] * (side === 'keys' ? plan.scoreDim : plan.valueDim);
  return module.function(`touch.${side}.${storage}`, { parameters: { list: 'i32', count: 'i32', rows: 'i32', rowBytes: 'i32' } }, (f, { list, count, rows, rowBytes }) => {
    const [offset, row] = [f.local('offset', 'i32'), f.local('row', 'i32')];
    f.for(offset, { to: i32.shl(count, 2), step: 4 }, () => {
      f.set(row, i32.add(rows, i32.mul(i32.load(i32.add(list, offset)), rowBytes)));
      for (let place = 0; place < bytes; place += line) f.do(i32.load8_u(row, place));
    });
  });
}

/** Reading ahead in a list of keys, over the edges of a task: from where its first row begins to where its last one ends. */
export function touchAhead(f: FunctionBuilder, { layouts }: Emission, { call, list, first, end }: Readonly<Record<'call' | 'list' | 'first' | 'end', Local<'i32'>>>, gather: (body: (callee: Callee, rows: Local<'i32'>, rowBytes: Local<'i32'>) => void) => void): Touch {
  const starts = f.let('startsOfRows', word(call, layouts.call.offset('starts')));
  const touched = f.let('touched', i32.load(i32.add(starts, i32.shl(first, 2))));
  const last = f.let('lastEdge', i32.load(i32.add(starts, i32.shl(end, 2))));
  const next = f.local('nextTouched', 'i32');
  return {
    upTo: (to) => {
      f.if(i32.gt_s(to, touched), () => {
        f.set(next, i32.add(to, edgesAhead));
        f.if(i32.gt_s(next, last), () => {
          f.set(next, last);
        });
        gather((callee, rows, rowBytes) => {
          f.do(callTo(callee, i32.add(list, i32.shl(touched, 2)), i32.sub(next, touched), rows, rowBytes));
        });
        f.set(touched, next);
      });
    },
  };
}
