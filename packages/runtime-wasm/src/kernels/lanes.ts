import type { FunctionBuilder } from '../emit/function.ts';
import { instructions, type Local, type Value } from '../emit/instruction.ts';

const { f32, f32x4, i8x16 } = instructions;

/** (a + b) + (c + d) of the four lanes. */
export function sumOfLanes(vector: Local<'v128'>): Value<'f32'> {
  const lane = (index: number): Value<'f32'> => f32x4.extract_lane(vector, index);
  return f32.add(f32.add(lane(0), lane(1)), f32.add(lane(2), lane(3)));
}

/** The largest of four lanes, in all of them. */
export function largestLane(f: FunctionBuilder, vector: Local<'v128'>): void {
  const turned = (bytes: number): Value<'v128'> => i8x16.shuffle(vector, vector, Array.from({ length: 16 }, (_, index) => (index + bytes) % 16));
  f.set(vector, f32x4.pmax(vector, turned(8)));
  f.set(vector, f32x4.pmax(vector, turned(4)));
}
