import type { Axis } from '../../expression/declarations.ts';
import { elementwise } from './elementwise.ts';
import type { Elementwise } from './transform.ts';

export interface AddRowOptions {
  /** Name of the table [dim], or [heads, dim] with `perHead`. Default 'row'. */
  readonly table?: string;
  /** One row for each head of the rows: 'head' for queries, 'keyHead' for keys. Default: one for all. */
  readonly perHead?: 'head' | 'keyHead';
  /** Size of the last axis: 'queryDim', 'keyDim', a number or any name. Default 'scoreDim'. */
  readonly axis?: Axis;
}

/** row + u with a learned u: Transformer-XL's content bias (Dai 2019, section 3.3), or the bias of a projection made elsewhere. */
export function addRow(options: AddRowOptions = {}): Elementwise {
  const { table: name = 'row', perHead, axis = 'scoreDim' } = options;
  return elementwise('addRow', ({ element, channel, head, table }) =>
    element.add(perHead === undefined ? table(name, [axis]).at(channel) : table(name, [perHead, axis]).at(head, channel)));
}
