import { alibi, alibiSlopes, tensor, type HostTensor, type Modifier } from '@heed/core';

/** A modifier with the tables that it reads. */
export interface PositionBias {
  readonly modifier: Modifier;
  readonly tables: Readonly<Record<string, HostTensor>>;
}

/** ALiBi for this many query heads (Press 2022): `scaledDot().modify(modifier)`, and `tables` for the layer. */
export function alibiBias(heads: number): PositionBias {
  return { modifier: alibi(), tables: { slopes: tensor(alibiSlopes(heads), [heads]) } };
}
