import type { AttentionVariant } from '@heed/core';
import type { Cell } from '../components/heat-map.tsx';
import type { Result } from '../model/call.ts';
import type { HeadTables } from '../model/heads.ts';
import type { Described } from '../model/variant.ts';
import type { ExplorerState } from '../state/state.ts';

/** What every view is given. */
export interface ViewProps {
  readonly state: ExplorerState;
  readonly change: (changes: Partial<ExplorerState>) => void;
  readonly variant: AttentionVariant;
  /** The same with how its tables are filled, to be run beside. */
  readonly described: Described;
  readonly uniforms: Readonly<Record<string, number>>;
  readonly heads: HeadTables;
  readonly result: Result;
  readonly queryLabels: readonly string[];
  readonly keyLabels: readonly string[];
  /** The pair that is looked at, in every view the same. */
  readonly cell: Cell | null;
  readonly onCell: (cell: Cell | null) => void;
}

/** [rows, columns] of one head of a stage. */
export function planeOf(values: Float32Array, head: number, size: number): Float32Array {
  return values.subarray(head * size, (head + 1) * size);
}
