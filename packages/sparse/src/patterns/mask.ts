import type { AttentionInputs, Masking, Tensor } from '@heed/core';
import type { HostBlockList, TileSizes } from '@heed/core/compute';
import { attention, AttentionError, tensor } from '@heed/core';
import { bind, listTiles } from '@heed/core/compute';

/** The plane of queries and keys that a list covers, and the size of its tiles. */
export interface PatternPlane
  extends TileSizes, Pick<AttentionInputs, 'queryOffset' | 'keyOffset' | 'queryPositions' | 'keyPositions' | 'queryLengths' | 'keyLengths' | 'packed' | 'tables' | 'uniforms'> {
  readonly queryLength: number;
  readonly keyLength: number;
  /** Sequences side by side. Default 1. */
  readonly batch?: number;
  /** Query heads. Default 1: for masks that do not read the head. */
  readonly heads?: number;
  /** Default: `heads`. */
  readonly keyHeads?: number;
}

/**
 * The tiles in which a mask may allow a pair, by the mask's own bound: no pair is looked at by itself. Used beside the mask, the list gives what the mask gives.
 * @throws AttentionError as a call with this mask on this plane
 */
export function blocksOfMask(masking: Masking, plane: PatternPlane): HostBlockList {
  const { queryLength, keyLength, blockQuery, blockKey, batch = 1, heads = 1, keyHeads = heads, ...rest } = plane;
  const rows = (name: string, count: number, own: number): Tensor => {
    if (!Number.isSafeInteger(count) || count < 0) throw new AttentionError('invalid-argument', `${name} is ${count}.`, 'Expected an integer of 0 or more.');
    // One element stands for all: only shapes are read.
    return tensor(new Float32Array(1), [batch, own, count, 1], { strides: [0, 0, 0, 0] });
  };
  const query = rows('queryLength', queryLength, heads);
  const key = rows('keyLength', keyLength, keyHeads);
  const call = bind({ variant: attention({ masking }), queryDim: 1, keyDim: 1, valueDim: 1 }, { ...rest, query, key, value: key });
  return listTiles(call, { blockQuery, blockKey });
}
