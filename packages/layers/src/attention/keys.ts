import type { AttentionKernel, Tensor } from '@heed/core';
import type { Temporaries } from '../temporaries.ts';
import type { CallTables, Positions } from './attend.ts';

/** Rows k' of keys at these positions, which `rows` keeps; the keys themselves where the variant transforms none. */
export async function transformKeys(rows: Temporaries, kernel: AttentionKernel, key: Tensor, positions: Positions, { tables, uniforms }: CallTables): Promise<Tensor> {
  const { keyTransforms } = kernel.request.variant.scoring;
  if (keyTransforms.length === 0) return key;
  const read = new Set(keyTransforms.flatMap((transform) => Object.keys(transform.tables)));
  const needed = Object.fromEntries(Object.entries(tables ?? {}).filter(([name]) => read.has(name)));
  const [batch = 0] = key.shape;
  const place = 'dtype' in positions ? { keyPositions: positions } : { keyOffset: positions.length === batch ? positions : (positions[0] ?? 0) };
  return rows.keep(await kernel.transformKeys({ key, ...place, tables: needed, ...(uniforms === undefined ? {} : { uniforms }) }));
}
