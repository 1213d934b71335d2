import { AttentionError, tensor, type Runtime, type Tensor } from '@heed/core';
import { overElements } from '../expressions.ts';
import { bring, onRuntime } from '../on-runtime.ts';
import { forEach } from '../caches/rows.ts';

/** How rows are found in a table of positions. */
export interface PositionTableOptions {
  /** Position of the first row, for all sequences or for each. Default 0. */
  readonly position?: number | readonly number[];
  /** Added to every position before its row is taken: 2 for models whose first two rows are of padding (OPT). Default 0. */
  readonly offset?: number;
}

/**
 * x + table[position]: learned positions (Gehring 2017) or those of `sinusoidalPositions`. Rows at negative positions, which are padding on the left, take row 0.
 *
 * @param x     [batch, length, dim]
 * @param table [positions, dim]
 * @returns a new tensor where x lives
 * @throws AttentionError `invalid-shape`, `invalid-positions` for one that the table does not have
 */
export async function addPositions(runtime: Runtime, x: Tensor, table: Tensor, { position = 0, offset = 0 }: PositionTableOptions = {}): Promise<Tensor> {
  return onRuntime(runtime, x, async (temporaries, here) => {
    const [batch = 0, length = 0, dim = 0] = here.shape;
    const [rows = 0, width = 0] = table.shape;
    if (table.shape.length !== 2 || width !== dim) throw new AttentionError('invalid-shape', `The positions are [${table.shape.join(', ')}], the rows [${here.shape.join(', ')}].`, `Expected [positions, ${dim}].`);
    const first = forEach(batch, position, 'position');
    const indices = Int32Array.from({ length: batch * length }, (_, index) => Math.max(0, (first[Math.floor(index / length)] ?? 0) + (index % length)) + offset);
    const beyond = indices.find((index) => index >= rows);
    if (beyond !== undefined) throw new AttentionError('invalid-positions', `Row ${beyond} is needed, and the table has ${rows}.`, 'Use a longer table, or shorter sequences.');
    const taken = temporaries.keep(runtime.operations.gather(bring(temporaries, table), tensor(indices, [batch * length])));
    return runtime.operations.elementwise(sum, { a: here, b: runtime.view(taken, here.shape) });
  });
}

const sum = overElements(['a', 'b'], ({ a, b }) => a.add(b));
