import type { FunctionBuilder } from '../emit/function.ts';
import { loadFloat, loadFloats, storageBytes, storeFloat, storeFloats, type FloatStorage } from '../emit/half.ts';
import { constantF32x4, instructions, type Local } from '../emit/instruction.ts';

const { f32, f32x4, i32, v128 } = instructions;

/** Copies `width` elements of any stride to dense float32, zeros behind them up to a whole vector. */
export function loadRow(f: FunctionBuilder, dtype: FloatStorage, width: number, address: Local<'i32'>, channelBytes: Local<'i32'>, target: Local<'i32'>): void {
  const whole = Math.floor(width / 4) * 4;
  const bytes = storageBytes[dtype];
  const channel = f.local('channel', 'i32');
  const element = f.local('element', 'i32');
  const strided = (from: number): void => {
    f.for(channel, { from, to: width }, () => {
      f.set(element, i32.add(address, i32.mul(channel, channelBytes)));
      f.do(f32.store(i32.add(target, i32.shl(channel, 2)), f32x4.extract_lane(loadFloat(f, dtype, element), 0)));
    });
  };
  if (width % 4 !== 0) f.do(v128.store(target, constantF32x4(0), whole * 4));
  f.if(i32.eq(channelBytes, bytes), () => {
    if (whole > 0) {
      f.for(channel, { to: whole, step: 4, atLeastOnce: true }, () => {
        f.set(element, i32.add(address, i32.mul(channel, bytes)));
        f.do(v128.store(i32.add(target, i32.shl(channel, 2)), loadFloats(f, dtype, element)));
      });
    }
    if (whole < width) strided(whole);
  }, () => {
    strided(0);
  });
}

/** Writes `width` float32 numbers as elements of a dtype, `channelBytes` apart. */
export function storeRow(f: FunctionBuilder, dtype: FloatStorage, width: number, source: Local<'i32'>, target: Local<'i32'>, channelBytes: Local<'i32'>): void {
  const bytes = storageBytes[dtype];
  const whole = Math.floor(width / 4) * 4;
  const channel = f.local('channel', 'i32');
  const place = f.local('place', 'i32');
  const oneByOne = (from: number): void => {
    f.for(channel, { from, to: width, atLeastOnce: true }, () => {
      f.set(place, i32.add(target, i32.mul(channel, channelBytes)));
      storeFloat(f, dtype, place, v128.load32_splat(i32.add(source, i32.shl(channel, 2))));
    });
  };
  f.if(i32.eq(channelBytes, bytes), () => {
    if (whole > 0) {
      f.for(channel, { to: whole, step: 4, atLeastOnce: true }, () => {
        f.set(place, i32.add(target, i32.mul(channel, bytes)));
        storeFloats(f, dtype, place, v128.load(i32.add(source, i32.shl(channel, 2))));
      });
    }
    if (whole < width) oneByOne(whole);
  }, () => {
    oneByOne(0);
  });
}
