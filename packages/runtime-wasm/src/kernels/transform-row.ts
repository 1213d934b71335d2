import type { Expression, RowTransform } from '@heed/core';
import { transformedWidth } from '@heed/core';
import type { FunctionBuilder } from '../emit/function.ts';
import type { FloatStorage } from '../emit/half.ts';
import { constantF32x4, instructions, lanesI32x4, type Local, type Value } from '../emit/instruction.ts';
import { exp } from '../emit/math.ts';
import { sumOfLanes } from './lanes.ts';
import { laneNumbers, Place, type Surroundings, type Vector } from './place.ts';
import { loadRow } from './rows.ts';
import { tableStrideWord, tableWord, turnWord } from './word-names.ts';

const { f32, f32x4, i32, i32x4, v128 } = instructions;

/** A row of q or k on its way: float32 in one of two buffers, with zeros up to a whole vector. */
export interface RowSource {
  readonly side: 'query' | 'key';
  readonly transforms: readonly RowTransform[];
  readonly dim: number;
  readonly dtype: FloatStorage;
  readonly sequence: Local<'i32'>;
  /** Head of the row itself. */
  readonly head: Local<'i32'>;
  /** Row within the sequence, and its position. */
  readonly index: Local<'i32'>;
  readonly position: Local<'i32'>;
  /** First element, and bytes to the next. */
  readonly address: Local<'i32'>;
  readonly channelBytes: Local<'i32'>;
  /** Two buffers of plan.rowFloats. */
  readonly work: Local<'i32'>;
}

/** Loads a row and applies its transforms. Returns where the result lies. */
export function transformRow(f: FunctionBuilder, at: Surroundings, source: RowSource): Local<'i32'> {
  const chain = new Chain(f, at, source);
  loadRow(f, source.dtype, source.dim, source.address, source.channelBytes, chain.current);
  source.transforms.forEach((transform, index) => {
    f.comment(`${source.side} ← ${transform.name}`);
    chain.apply(transform, index);
  });
  return chain.current;
}

class Chain {
  current: Local<'i32'>;
  #other: Local<'i32'>;
  #width: number;
  readonly #f: FunctionBuilder;
  readonly #at: Surroundings;
  readonly #source: RowSource;
  readonly #channel: Local<'i32'>;
  readonly #last: Local<'i32'>;

  constructor(f: FunctionBuilder, at: Surroundings, source: RowSource) {
    this.#f = f;
    this.#at = at;
    this.#source = source;
    this.#width = source.dim;
    this.current = f.let('row', i32.add(source.work, 0));
    this.#other = f.let('otherRow', i32.add(source.work, at.plan.rowFloats * 4));
    this.#channel = f.local('channel', 'i32');
    this.#last = f.local('lastChannel', 'i32');
  }

  apply(transform: RowTransform, index: number): void {
    switch (transform.kind) {
      case 'projection':
        this.#project(transform.table, transform.bias, transform.perHead, transform.width);
        break;
      case 'norm':
        this.#norm(transform);
        break;
      case 'rope':
        this.#turn(transform.pairing, transform.width ?? this.#width, index);
        break;
      case 'elementwise':
        this.#each(transform.expression);
        break;
      case 'featureMap':
        this.#map(transform, index);
    }
    this.#width = transformedWidth(transform, this.#width);
    this.#clearTail();
  }

  /** Zeros behind the row, which sums may then run over. */
  #clearTail(): void {
    const rest = this.#width % 4;
    if (rest === 0) return;
    const offset = (this.#width - rest) * 4;
    const kept = lanesI32x4([-1, rest > 1 ? -1 : 0, rest > 2 ? -1 : 0, 0]);
    this.#f.do(v128.store(this.current, v128.and(v128.load(this.current, offset), kept), offset));
  }

  #swap(): void {
    [this.current, this.#other] = [this.#other, this.current];
  }

  /** Runs over the row four channels at a time. `body` gets the address of the first. */
  #vectors(width: number, body: (address: Local<'i32'>) => void, base: Local<'i32'> = this.current): void {
    const f = this.#f;
    f.for(this.#channel, { to: width, step: 4, atLeastOnce: true }, () => {
      body(f.let('place', i32.add(base, i32.shl(this.#channel, 2))));
    });
  }

  #place(inputs: { readonly element?: Local<'v128'> }): Place {
    const { f, source } = { f: this.#f, source: this.#source };
    const channels = f.let('channels', i32x4.add(i32x4.splat(this.#channel), laneNumbers()));
    f.set(this.#last, this.#width - 1);
    const { sequence, head, index, position } = source;
    const batch = f.let('batch', i32.load(sequence, this.#at.layouts.sequence.offset('batch')));
    return new Place(f, this.#at, {
      inputs: { ...inputs, channel: channels, batch, head, index, position },
      fixed: [],
      lanes: { input: 'channel', first: this.#channel, last: this.#last },
    });
  }

  /** A number that depends on the row alone. */
  #scalar(expression: Expression): Local<'f32'> {
    const f = this.#f;
    f.set(this.#channel, 0);
    return f.let('scalar', f32x4.extract_lane(this.#place({}).evaluate(expression), 0));
  }

  #each(expression: Expression): void {
    const f = this.#f;
    this.#vectors(this.#width, (address) => {
      const element = f.let('element', v128.load(address));
      f.do(v128.store(address, this.#place({ element }).evaluate(expression)));
    });
  }

  #sum(term: (element: Vector) => Vector): Local<'f32'> {
    const f = this.#f;
    const sum = f.local('sum', 'v128');
    f.set(sum, constantF32x4(0));
    this.#vectors(this.#width, (address) => {
      f.set(sum, f32x4.add(sum, term(v128.load(address))));
    });
    return f.let('total', sumOfLanes(sum));
  }

  #norm(transform: Extract<RowTransform, { kind: 'norm' }>): void {
    const f = this.#f;
    const width = this.#width;
    const epsilon = this.#scalar(transform.epsilon);
    const centre = transform.norm === 'layer' ? f.let('centre', f32.div(this.#sum((element) => element), width)) : null;
    if (centre !== null) {
      this.#vectors(width, (address) => {
        f.do(v128.store(address, f32x4.sub(v128.load(address), f32x4.splat(centre))));
      });
      this.#clearTail();
    }
    const element = f.local('element', 'v128');
    const squares = this.#sum((value) => {
      f.set(element, value);
      return f32x4.mul(element, element);
    });
    const divisor = f.let('divisor', transform.norm === 'l2' ? f32.max(f32.sqrt(squares), epsilon) : f32.sqrt(f32.add(f32.div(squares, width), epsilon)));
    this.#vectors(width, (address) => {
      let result: Vector = f32x4.div(v128.load(address), f32x4.splat(divisor));
      if (transform.gain !== null) result = f32x4.mul(result, this.#place({}).evaluate(transform.gain));
      if (transform.shift !== null) result = f32x4.add(result, this.#place({}).evaluate(transform.shift));
      f.do(v128.store(address, result));
    });
  }

  /** other[w] = bias[w] + Σ_d row[d] · table[w, d]. */
  #project(table: string, bias: string | null, perHead: boolean, width: number): void {
    const f = this.#f;
    const { call, layouts } = this.#at;
    const word = (name: string): Value<'i32'> => i32.load(call, layouts.call.offset(name));
    const axis = perHead ? 1 : 0;
    const start = (name: string): Local<'i32'> => f.let('matrix', perHead ? i32.add(word(tableWord(name)), i32.mul(this.#source.head, word(tableStrideWord(name, 0)))) : word(tableWord(name)));
    const row = start(table);
    const rowStride = f.let('rowStride', word(tableStrideWord(table, axis)));
    const stride = f.let('stride', word(tableStrideWord(table, axis + 1)));
    const added = bias === null ? null : start(bias);
    const channel = f.local('outChannel', 'i32');
    f.for(channel, { to: width, atLeastOnce: true }, () => {
      const total = this.#dot(row, stride);
      if (bias !== null && added !== null) f.set(total, f32.add(total, f32.load(i32.add(added, i32.mul(channel, word(tableStrideWord(bias, axis)))))));
      f.do(f32.store(i32.add(this.#other, i32.shl(channel, 2)), total));
      f.set(row, i32.add(row, rowStride));
    });
    this.#swap();
  }

  /** Σ_d row[d] · matrix[d], `stride` bytes apart. */
  #dot(matrix: Local<'i32'>, stride: Local<'i32'>): Local<'f32'> {
    const f = this.#f;
    const whole = Math.floor(this.#width / 4) * 4;
    const total = f.local('product', 'f32');
    const sum = f.local('sum', 'v128');
    const d = f.local('d', 'i32');
    f.set(total, 0);
    const scalar = (from: number): void => {
      f.for(d, { from, to: this.#width }, () => {
        f.set(total, f32.add(total, f32.mul(f32.load(i32.add(this.current, i32.shl(d, 2))), f32.load(i32.add(matrix, i32.mul(d, stride))))));
      });
    };
    f.if(i32.eq(stride, 4), () => {
      f.set(sum, constantF32x4(0));
      if (whole > 0) {
        f.for(d, { to: whole, step: 4, atLeastOnce: true }, () => {
          f.set(sum, f32x4.add(sum, f32x4.mul(v128.load(i32.add(this.current, i32.shl(d, 2))), v128.load(i32.add(matrix, i32.shl(d, 2))))));
        });
        f.set(total, sumOfLanes(sum));
      }
      if (whole < this.#width) scalar(whole);
    }, () => {
      scalar(0);
    });
    return total;
  }

  /** Each channel with its partner, by cosines and signed sines that the host computed in float64: [row][2][width]. */
  #turn(pairing: 'half' | 'interleaved', width: number, index: number): void {
    const f = this.#f;
    const { sequence, side } = this.#source;
    const turns = f.let('turns', i32.add(i32.load(sequence, this.#at.layouts.sequence.offset(turnWord(side, index))), i32.mul(this.#source.index, width * 8)));
    const half = width / 2;
    const pair = f.local('pair', 'i32');
    if (pairing === 'half' && half % 4 === 0) {
      f.for(pair, { to: half * 4, step: 16, atLeastOnce: true }, () => {
        const [place, turn] = [f.let('place', i32.add(this.current, pair)), f.let('turn', i32.add(turns, pair))];
        const [a, b] = [f.let('a', v128.load(place)), f.let('b', v128.load(place, half * 4))];
        f.do(v128.store(place, f32x4.add(f32x4.mul(a, v128.load(turn)), f32x4.mul(b, v128.load(turn, width * 4)))));
        f.do(v128.store(place, f32x4.add(f32x4.mul(b, v128.load(turn, half * 4)), f32x4.mul(a, v128.load(turn, (width + half) * 4))), half * 4));
      });
      return;
    }
    const [step, distance] = pairing === 'half' ? [4, half * 4] : [8, 4];
    f.for(pair, { to: half * step, step, atLeastOnce: true }, () => {
      const [place, turn] = [f.let('place', i32.add(this.current, pair)), f.let('turn', i32.add(turns, pair))];
      const [a, b] = [f.let('a', f32.load(place)), f.let('b', f32.load(place, distance))];
      f.do(f32.store(place, f32.add(f32.mul(a, f32.load(turn)), f32.mul(b, f32.load(turn, width * 4)))));
      f.do(f32.store(place, f32.add(f32.mul(b, f32.load(turn, distance)), f32.mul(a, f32.load(turn, width * 4 + distance))), distance));
    });
  }

  #map(transform: Extract<RowTransform, { kind: 'featureMap' }>, index: number): void {
    const { map } = transform;
    switch (map.rule) {
      case 'hedgehog':
        this.#hedgehog(map.softmax);
        break;
      case 'favor':
        this.#favor(map.table, map.features);
        return;
      case 'cosformer':
        this.#cosformer(index);
        break;
      case 'based':
        this.#based();
        break;
      case 'dpfp':
        this.#dpfp(map.order);
    }
    this.#swap();
  }

  /** Copies numbers one by one, since halves of a result may begin anywhere. */
  #scalars(to: number, body: (channel: Local<'i32'>, place: Local<'i32'>) => void): void {
    const f = this.#f;
    f.for(this.#channel, { to, atLeastOnce: true }, () => {
      body(this.#channel, f.let('place', i32.shl(this.#channel, 2)));
    });
  }

  /** [x; −x] into the other buffer. */
  #mirror(): void {
    const f = this.#f;
    this.#scalars(this.#width, (_, place) => {
      const element = f.let('x', f32.load(i32.add(this.current, place)));
      f.do(f32.store(i32.add(this.#other, place), element));
      f.do(f32.store(i32.add(this.#other, place), f32.neg(element), this.#width * 4));
    });
  }

  #lanes(): { readonly f: FunctionBuilder; readonly fused: boolean } {
    return { f: this.#f, fused: this.#at.plan.machine.fused };
  }

  #hedgehog(softmax: boolean): void {
    const f = this.#f;
    const width = 2 * this.#width;
    this.#mirror();
    const largest = f.local('largest', 'f32');
    const total = f.local('total', 'f32');
    if (softmax) {
      f.set(largest, -Infinity);
      this.#scalars(width, (_, place) => {
        f.set(largest, f32.max(largest, f32.load(i32.add(this.#other, place))));
      });
    }
    this.#vectors(width, (address) => {
      f.do(v128.store(address, exp(this.#lanes(), f32x4.sub(v128.load(address), f32x4.splat(largest)))));
    }, this.#other);
    if (!softmax) return;
    f.set(total, 0);
    this.#scalars(width, (_, place) => {
      f.set(total, f32.add(total, f32.load(i32.add(this.#other, place))));
    });
    this.#vectors(width, (address) => {
      f.do(v128.store(address, f32x4.div(v128.load(address), f32x4.splat(total))));
    }, this.#other);
  }

  #favor(table: string, features: number): void {
    const f = this.#f;
    const dim = this.#width;
    const element = f.local('element', 'v128');
    this.#vectors(dim, (address) => {
      f.do(v128.store(address, f32x4.mul(v128.load(address), constantF32x4(dim ** -0.25))));
    });
    const squares = this.#sum((value) => {
      f.set(element, value);
      return f32x4.mul(element, element);
    });
    const half = f.let('half', f32.mul(squares, 0.5));
    this.#project(table, null, false, features);
    this.#vectors(features, (address) => {
      f.do(v128.store(address, f32x4.mul(exp(this.#lanes(), f32x4.sub(v128.load(address), f32x4.splat(half))), constantF32x4(features ** -0.5))));
    });
  }

  /** Cosine and sine of each row's angle stand in [row][2]. */
  #cosformer(index: number): void {
    const f = this.#f;
    const { sequence, side } = this.#source;
    const turn = f.let('turn', i32.add(i32.load(sequence, this.#at.layouts.sequence.offset(turnWord(side, index))), i32.shl(this.#source.index, 3)));
    this.#scalars(this.#width, (_, place) => {
      const element = f.let('x', f32.max(f32.load(i32.add(this.current, place)), 0));
      f.do(f32.store(i32.add(this.#other, place), f32.mul(element, f32.load(turn))));
      f.do(f32.store(i32.add(this.#other, place), f32.mul(element, f32.load(turn, 4)), this.#width * 4));
    });
  }

  /** 1; x_i; x_i²; x_i x_j for i < j, row by row. */
  #based(): void {
    const f = this.#f;
    const dim = this.#width;
    f.do(f32.store(this.#other, f32x4.extract_lane(constantF32x4(1), 0)));
    this.#scalars(dim, (_, place) => {
      const element = f.let('x', f32.load(i32.add(this.current, place)));
      const target = f.let('target', i32.add(this.#other, place));
      f.do(f32.store(target, f32.mul(element, dim ** -0.25), 4));
      f.do(f32.store(target, f32.mul(f32.mul(element, element), (2 * dim) ** -0.5), (1 + dim) * 4));
    });
    const target = f.let('target', i32.add(this.#other, (1 + 2 * dim) * 4));
    const second = f.local('second', 'i32');
    this.#scalars(dim, (channel, place) => {
      const element = f.let('x', f32.mul(f32.load(i32.add(this.current, place)), dim ** -0.5));
      f.for(second, { from: i32.add(channel, 1), to: dim }, () => {
        f.do(f32.store(target, f32.mul(element, f32.load(i32.add(this.current, i32.shl(second, 2))))));
        f.set(target, i32.add(target, 4));
      });
    });
  }

  /** r ⊙ roll(r, n) for n = 1 … order with r = relu([x; −x]). */
  #dpfp(order: number): void {
    const f = this.#f;
    const width = 2 * this.#width;
    const rolled = f.local('rolled', 'i32');
    const rectified = (index: Local<'i32'>): Value<'f32'> => {
      const isMirrored = f.let('mirrored', i32.ge_s(index, this.#width));
      const place = f.let('place', i32.shl(i32.sub(index, i32.mul(isMirrored, this.#width)), 2));
      const element = f.let('x', f32.load(i32.add(this.current, place)));
      f.if(isMirrored, () => {
        f.set(element, f32.neg(element));
      });
      return f32.max(element, 0);
    };
    for (let roll = 1; roll <= order; roll += 1) {
      this.#scalars(width, (channel, place) => {
        f.set(rolled, i32.rem_s(i32.add(channel, width * order - roll), width));
        const left = f.let('left', rectified(channel));
        f.do(f32.store(i32.add(this.#other, place), f32.mul(left, rectified(rolled)), (roll - 1) * width * 4));
      });
    }
  }
}
