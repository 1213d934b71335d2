import { constantI32x4, instructions, laneNumbers, type FunctionBuilder, type Local } from '@heed/runtime-wasm';
import { padStrip, readWords, word, type Callee, type Emission } from './context.ts';
import { EdgePlace, rowParameters } from './edge-place.ts';

const { f32, i32, i32x4, v128 } = instructions;

/**
 * select(…, from, to) → n: the keys of the row's edges from … to − 1 that the mask and the lengths allow, and their places in the list, to the row's strips.
 * A vector of repeats stands behind the last, so that whole vectors of them can be read.
 */
export function emitSelect(emission: Emission): Callee {
  const { module, request, plan, layouts } = emission;
  return module.function('select', { parameters: { ...rowParameters, from: 'i32', to: 'i32' }, results: ['i32'] }, (f, { from, to, ...row }) => {
    const list = f.let('list', word(row.call, layouts.call.offset('edges')));
    const { copiesEdges, keyCount } = readWords(f, row.sequence, layouts.sequence, ['copiesEdges', 'keyCount']);
    const edge = f.local('edge', 'i32');
    const count = f.local('selected', 'i32');
    const chosen = (): void => {
      const last = f.let('last', i32.sub(to, 1));
      const counts = f.let('keyCounts', i32x4.splat(keyCount));
      const place = new EdgePlace(f, emission, row, [request.variant.masking.allowed]);
      const allowed = f.local('allowed', 'v128');
      const bits = f.local('bits', 'i32');
      f.for(edge, { from, to, step: 4 }, () => {
        f.set(allowed, place.enterList(edge, last, list));
        f.set(allowed, v128.and(allowed, i32x4.lt_s(place.keyIndex, counts)));
        if (!plan.allowsAll) f.set(allowed, v128.and(allowed, place.place.evaluate(request.variant.masking.allowed)));
        f.set(bits, i32x4.bitmask(allowed));
        for (const lane of [0, 1, 2, 3]) {
          const at = f.let('at', i32.shl(count, 2));
          f.do(i32.store(i32.add(row.keys, at), i32x4.extract_lane(place.keyIndex, lane)));
          if (plan.readsEdgeIndex) f.do(i32.store(i32.add(row.edges, at), i32.add(edge, lane)));
          f.set(count, i32.add(count, i32.and(i32.shr_u(bits, lane), 1)));
        }
      });
    };
    f.set(count, 0);
    if (plan.allowsAll) {
      f.if(copiesEdges, () => {
        f.set(count, i32.sub(to, from));
        copyEdges(f, emission, { list, from, count, keys: row.keys, edges: row.edges });
      }, chosen);
    } else chosen();
    f.if(count, () => {
      for (const strip of plan.readsEdgeIndex ? [row.keys, row.edges] : [row.keys]) padStrip(f, strip, count);
    });
    f.return(count);
  });
}

interface EdgeRun {
  readonly list: Local<'i32'>;
  readonly from: Local<'i32'>;
  readonly count: Local<'i32'>;
  readonly keys: Local<'i32'>;
  readonly edges: Local<'i32'>;
}

/** All edges of a row, in whole vectors. */
function copyEdges(f: FunctionBuilder, { plan }: Emission, { list, from, count, keys, edges }: EdgeRun): void {
  const [source, offset] = [f.let('source', i32.add(list, i32.shl(from, 2))), f.local('offset', 'i32')];
  const numbers = f.let('numbers', i32x4.add(i32x4.splat(from), laneNumbers()));
  f.for(offset, { to: i32.shl(count, 2), step: 16 }, () => {
    f.do(v128.store(i32.add(keys, offset), v128.load(i32.add(source, offset))));
    if (!plan.readsEdgeIndex) return;
    f.do(v128.store(i32.add(edges, offset), numbers));
    f.set(numbers, i32x4.add(numbers, constantI32x4(4)));
  });
}

/** compact(keys, edges, scores, count) → n: leaves out the edges whose score is −∞, which count for nothing (L1). */
export function emitCompact({ module, plan }: Emission): Callee {
  return module.function('compact', { parameters: { keys: 'i32', edges: 'i32', scores: 'i32', count: 'i32' }, results: ['i32'] }, (f, { keys, edges, scores, count }) => {
    const [offset, kept] = [f.local('offset', 'i32'), f.local('kept', 'i32')];
    const strips = plan.readsEdgeIndex ? [keys, edges] : [keys];
    f.set(kept, 0);
    f.for(offset, { to: i32.shl(count, 2), step: 4 }, () => {
      const score = f.let('score', f32.load(i32.add(scores, offset)));
      for (const strip of strips) f.do(i32.store(i32.add(strip, kept), i32.load(i32.add(strip, offset))));
      f.do(f32.store(i32.add(scores, kept), score));
      f.set(kept, i32.add(kept, i32.shl(f32.ne(score, -Infinity), 2)));
    });
    const left = f.let('left', i32.shr_u(kept, 2));
    f.if(left, () => {
      for (const strip of [...strips, scores]) padStrip(f, strip, left);
    });
    f.return(left);
  });
}
