import type { Value } from '@heed/runtime-wasm';
import { call as callTo, instructions } from '@heed/runtime-wasm';
import { emitChannelPairs } from './channel-decay.ts';
import type { Callee, Emission } from './context.ts';
import { emitDecayPairs, emitDecays } from './decay.ts';
import { emitProduct } from './product.ts';
import { emitReadSums, emitWriteSums, sumsApart } from './row-sums.ts';
import { emitSolve } from './solve.ts';
import { emitScaleColumns, emitScaleRows, emitTurn } from './turn.ts';

const { i32 } = instructions;

/**
 * chunk(scratch, rows, columns, reads): one chunk that stands in scratch (VARIANTS: chunk form; Yang 2024, section 3). With rows Q, K, V, B (what is recalled by) and decays Γ since the chunk began:
 *
 *     1. pairs of readers and writers, lower triangles, decayed
 *     2. X = what is written: β ⊙ V, or for rules that remove (I + tril(B Kᵀ)) X = β ⊙ (V − Γ B G), solved from the first token on
 *     3. O = Γ Q G + tril(Q Kᵀ) X
 *     4. G = Γ_end G + (Γ_end / Γ ⊙ K)ᵀ X
 *
 * Rules that remove along other rows A than they write keep both: N = −(what is recalled), and A, N beside K, X in 3 and 4. reads = 0 leaves out 1 and 3, for keys that no row in scratch reads.
 */
export function emitChunk(emission: Emission): Callee {
  const { module, plan, scratch: places } = emission;
  const { recall, decay, widthStride, valueStride, rows: chunkRows, tile, epsilon } = plan;
  const apart = sumsApart(plan);
  const [vectorRow, valueRow, pairRow] = [widthStride * 4, valueStride * 4, chunkRows * 4];
  const own = recall !== null && !recall.isDelta;
  const isScalar = decay !== null && decay !== 'channel';
  const byChannel = decay === 'channel';
  const turn = byChannel ? null : emitTurn(emission);
  const channelPairs = byChannel ? emitChannelPairs(emission) : null;
  const decays = isScalar ? emitDecays(emission) : null;
  const decayPairs = isScalar
    ? emitDecayPairs(emission, [
        { matrix: places.queryKey, beforeDecay: false },
        ...(own ? [{ matrix: places.queryRemove, beforeDecay: false }, { matrix: places.recallRemove, beforeDecay: recall.beforeDecay }] : []),
        ...(recall === null ? [] : [{ matrix: places.recallKey, beforeDecay: recall.beforeDecay }]),
      ])
    : null;
  const pairs = byChannel ? null : emitProduct(emission, 'pairs', { leftRow: vectorRow, rightRow: pairRow, targetRow: pairRow, depth: 'all', columns: 'lower', mode: 'set' });
  const readState = emitProduct(emission, 'readState', { leftRow: vectorRow, rightRow: valueRow, targetRow: valueRow, depth: 'all', columns: 'all', mode: 'set' });
  const readChunk = emitProduct(emission, 'readChunk', { leftRow: pairRow, rightRow: valueRow, targetRow: valueRow, depth: 'lower', columns: 'all', mode: isScalar ? 'scale' : 'add' });
  const readRemoved = own ? emitProduct(emission, 'readRemoved', { leftRow: pairRow, rightRow: valueRow, targetRow: valueRow, depth: 'lower', columns: 'all', mode: 'add' }) : null;
  const recallChunk = own ? emitProduct(emission, 'recallChunk', { leftRow: pairRow, rightRow: valueRow, targetRow: valueRow, depth: 'strict', columns: 'all', mode: isScalar ? 'scale' : 'add' }) : null;
  const writeState = emitProduct(emission, 'writeState', { leftRow: pairRow, rightRow: valueRow, targetRow: valueRow, depth: 'all', columns: 'all', mode: decay === null ? 'add' : 'scale' });
  const writeRemoved = own ? emitProduct(emission, 'writeRemoved', { leftRow: pairRow, rightRow: valueRow, targetRow: valueRow, depth: 'all', columns: 'all', mode: 'add' }) : null;
  const scaleRows = plan.strength && recall?.isDelta !== true ? emitScaleRows(emission) : null;
  const scaleColumns = isScalar ? emitScaleColumns(emission) : null;
  const solve = recall === null ? null : emitSolve(emission);
  const [readSums, writeSums] = apart ? [emitReadSums(emission), emitWriteSums(emission)] : [null, null];

  return module.function('chunk', { parameters: { scratch: 'i32', rows: 'i32', columns: 'i32', reads: 'i32' } }, (f, { scratch, rows, columns, reads }) => {
    const at = (place: number): Value<'i32'> => i32.add(scratch, place);
    const padded = f.let('padded', i32.and(i32.add(columns, tile.columns - 1 + (epsilon === null || apart ? 0 : 1)), -tile.columns));
    const run = (callee: Callee | null, ...operands: Parameters<typeof callTo>[1][]): void => {
      if (callee !== null) f.do(callTo(callee, ...operands));
    };
    run(scaleRows, at(places.value), at(places.strength), rows);
    run(decays, scratch, rows);
    run(turn, at(places.key), at(places.keyTurned), rows);
    if (own) run(turn, at(places.remove), at(places.removeTurned), rows);
    f.if(reads, () => {
      f.comment('1. pairs');
      run(channelPairs, scratch, rows);
      run(pairs, at(places.query), at(places.keyTurned), at(places.queryKey), rows, rows, widthStride, 0);
      if (recall !== null) run(pairs, at(places.recall), at(places.keyTurned), at(places.recallKey), rows, rows, widthStride, 0);
      if (own) {
        run(pairs, at(places.query), at(places.removeTurned), at(places.queryRemove), rows, rows, widthStride, 0);
        run(pairs, at(places.recall), at(places.removeTurned), at(places.recallRemove), rows, rows, widthStride, 0);
      }
      run(decayPairs, scratch, rows);
      if (recall !== null) {
        f.comment('2. what is written');
        const since = at(recall.beforeDecay ? places.before : places.since);
        run(readState, at(places.recall), at(places.memory), at(places.output), rows, padded, widthStride, 0);
        run(recallChunk, at(places.recallKey), at(places.value), at(places.output), rows, padded, 0, since);
        run(solve, at(own ? places.recallRemove : places.recallKey), at(places.output), at(own ? places.removed : places.value), rows, padded, since, at(places.strength));
      }
      f.comment('3. what is read');
      run(readState, at(places.query), at(places.memory), at(places.output), rows, padded, widthStride, 0);
      run(readChunk, at(places.queryKey), at(places.value), at(places.output), rows, padded, 0, at(places.since));
      run(readSums, scratch, rows);
      run(readRemoved, at(places.queryRemove), at(places.removed), at(places.output), rows, padded, 0, 0);
    });
    f.comment('4. the state behind the chunk');
    run(scaleColumns, at(places.keyTurned), at(places.until), rows);
    if (own) run(scaleColumns, at(places.removeTurned), at(places.until), rows);
    run(writeSums, scratch, rows);
    run(writeState, at(places.keyTurned), at(places.value), at(places.memory), widthStride, padded, rows, at(places.total));
    run(writeRemoved, at(places.removeTurned), at(places.removed), at(places.memory), widthStride, padded, rows, 0);
  });
}
