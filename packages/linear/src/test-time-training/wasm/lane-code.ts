import { instructions, type Arithmetic, type FunctionBuilder, type Local, type Value } from '@heed/runtime-wasm';
import type { Matrix } from '../layout.ts';

const { i32 } = instructions;

/** Where the code of a lane's steps is written. */
export interface LaneCode extends Arithmetic {
  readonly f: FunctionBuilder;
  /** Address of the lane's memory. */
  readonly memory: Local<'i32'>;
  /** Tokens of the piece. */
  readonly tokens: Local<'i32'>;
  /** Rows of tokens in a tile: 4, or 1 where a piece is one token. */
  readonly tileRows: number;
}

/** Address of a matrix. */
export function addressOf({ memory }: Pick<LaneCode, 'memory'>, { at }: Matrix): Value<'i32'> {
  return i32.add(memory, at * 4);
}
