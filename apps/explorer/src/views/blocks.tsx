import { bind, classifyTiles } from '@heed/core/compute';
import { drawTables, RandomSource } from '@heed/conformance';
import { tensor } from '@heed/core';
import { useMemo, useState, type ReactElement } from 'react';
import { shown } from '../model/formula.ts';
import type { ViewProps } from './view.ts';

const lengths = [64, 128, 256, 512, 1024, 2048];
const sizes = [16, 32, 64, 128];

/** Tiles of the mask: those that no pair of is allowed are never computed, those with all need no mask. */
export function Blocks({ variant, described, uniforms }: ViewProps): ReactElement {
  const [length, setLength] = useState(512);
  const [size, setSize] = useState(32);
  const tiles = useMemo(() => {
    const rows = tensor(new Float32Array(length), [1, 1, length, 1]);
    const shape = { batch: 1, heads: 1, keyHeads: 1, queryLength: length, keyLength: length, queryDim: 1, keyDim: 1, valueDim: 1 };
    const tables = drawTables(new RandomSource(7), variant, shape, { ...described.tables(shape), scoreDim: 1 });
    const call = bind({ variant, queryDim: 1, keyDim: 1, valueDim: 1 }, { query: rows, key: rows, value: rows, tables, uniforms, queryOffset: 'start' });
    return classifyTiles(call, { blockQuery: size, blockKey: size });
  }, [variant, described, uniforms, length, size]);
  const [, , down, across] = tiles.shape;
  const countOf = (kind: number): number => tiles.classes.reduce((count, found) => count + Number(found === kind), 0);
  const [empty, mixed, full] = [countOf(0), countOf(1), countOf(2)];
  const colors = ['transparent', 'var(--ring)', 'var(--accent)'];
  return (
    <>
      <p>The mask <strong>{variant.masking.name}</strong> over {length} tokens, in tiles of {size} × {size}. Interval arithmetic says of each tile whether no pair is allowed, all are, or some; no mask of {length} × {length} is ever built.</p>
      <div className="columns">
        <svg className="graph" viewBox={`0 0 ${across} ${down}`} role="img" aria-label={`${empty} empty, ${full} full and ${mixed} mixed tiles`} style={{ border: '1px solid var(--line)', maxWidth: '26rem' }}>
          {Array.from({ length: down * across }, (_, tile) => tile).filter((tile) => (tiles.classes[tile] ?? 0) > 0).map((tile) => <rect key={tile} x={(tile % across) + 0.04} y={Math.floor(tile / across) + 0.04} width={0.92} height={0.92} fill={colors[tiles.classes[tile] ?? 0]} opacity={0.85} />)}
        </svg>
        <div>
          <p className="legend"><span><span className="swatch" style={{ background: 'var(--accent)' }} />{full} full: no mask code</span><span><span className="swatch" style={{ background: 'var(--ring)' }} />{mixed} mixed: masked</span><span>{empty} empty: skipped</span></p>
          <p>{shown((100 * empty) / (down * across))} % of the tiles are never computed: the work is {shown((down * across - empty) / (down * across))} of everything.</p>
          <label className="choice"><span>Tokens</span><select value={length} onChange={(event) => setLength(Number(event.target.value))}>{lengths.map((each) => <option key={each} value={each}>{each}</option>)}</select></label>
          <label className="choice"><span>Tile</span><select value={size} onChange={(event) => setSize(Number(event.target.value))}>{sizes.map((each) => <option key={each} value={each}>{each} × {each}</option>)}</select></label>
        </div>
      </div>
    </>
  );
}
