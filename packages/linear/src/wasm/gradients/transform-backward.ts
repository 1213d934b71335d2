import type { Expression, FeatureMapRule, RowTransform } from '@heed/core';
import { transformedWidth } from '@heed/core';
import { differentiate } from '@heed/core/compute';
import type { FunctionBuilder, Local, Value } from '@heed/runtime-wasm';
import { constantF32x4, exp, instructions, lanesI32x4, laneNumbers, Place, tableStrideWord, tableWord, transformRow, turnWord } from '@heed/runtime-wasm';
import { fillVectors, forVectors, surroundings, tensorRow, type Emission, type Vector } from '../emit/context.ts';
import type { GradientScratch } from './scratch.ts';

const { f32, f32x4, i32, i32x4, v128 } = instructions;

export interface RowPlace {
  readonly call: Local<'i32'>;
  readonly scratch: Local<'i32'>;
  readonly sequence: Local<'i32'>;
  readonly head: Local<'i32'>;
  /** Row within the sequence, and in the tensors. */
  readonly index: Local<'i32'>;
  readonly place: Local<'i32'>;
  readonly tensorBatch: Local<'i32'>;
  /** Position of row 0. */
  readonly first: Local<'i32'>;
  /** Gradient of the transformed row, zeros up to a whole vector. */
  readonly gradient: Local<'i32'>;
}

/** The gradient of a row before its transforms, from that of the row behind them: each step's adjoint, last to first, with the rows in between made anew. Returns where it lies. */
export function transformsBackward(f: FunctionBuilder, emission: Emission, places: GradientScratch, side: 'query' | 'key', at: RowPlace): Local<'i32'> {
  const { plan, layouts } = emission;
  const transforms = side === 'query' ? plan.queryTransforms : plan.keyTransforms;
  if (transforms.length === 0) return at.gradient;
  const dim = side === 'query' ? plan.queryDim : plan.keyDim;
  const buffer = (index: number): Local<'i32'> => f.let('buffer', i32.add(at.scratch, places.transforms + index * plan.rowFloats * 4));
  const address = tensorRow(f, emission, side, at.call, at.tensorBatch, at.head, at.place);
  const channelBytes = f.let('channelBytes', i32.load(at.call, layouts.call.offset(`${side}.channel`)));
  const position = f.let('position', i32.add(at.first, at.index));
  if (plan.positionPeriod !== null) {
    f.set(position, i32.rem_s(position, plan.positionPeriod));
    f.if(i32.lt_s(position, 0), () => {
      f.set(position, i32.add(position, plan.positionPeriod ?? 0));
    });
  }
  const work = f.let('work', i32.add(at.scratch, places.work));
  const widths = [dim];
  const rows = transforms.map((transform, index) => {
    const row = transformRow(f, surroundings(emission, at.call), { side, transforms: transforms.slice(0, index), dim, dtype: plan.dtypes[side], sequence: at.sequence, head: at.head, index: at.index, position, address, channelBytes, work });
    const kept = buffer(2 + index);
    forVectors(f, plan.rowFloats, (bytes) => {
      f.do(v128.store(i32.add(kept, bytes), v128.load(i32.add(row, bytes))));
    });
    widths.push(transformedWidth(transform, widths[index] ?? dim));
    return kept;
  });
  let [gradient, other] = [at.gradient, buffer(1)];
  for (let index = transforms.length - 1; index >= 0; index -= 1) {
    const [transform, row, width, resultWidth] = [transforms[index], rows[index], widths[index], widths[index + 1]];
    if (transform === undefined || row === undefined || width === undefined || resultWidth === undefined) throw new RangeError('a transform has a row');
    f.comment(`back through ${transform.name}`);
    fillVectors(f, other, plan.rowFloats, constantF32x4(0));
    new StepBack(f, emission, at, { side, index, position, row, gradient, result: other, width, resultWidth }).emit(transform);
    [gradient, other] = [other, gradient];
  }
  return gradient;
}

interface Step {
  readonly side: 'query' | 'key';
  /** Which of the side's transforms. */
  readonly index: number;
  readonly position: Local<'i32'>;
  /** Row that the transform was given. */
  readonly row: Local<'i32'>;
  /** Gradient of what it made; and of the row, zeros at first. */
  readonly gradient: Local<'i32'>;
  readonly result: Local<'i32'>;
  readonly width: number;
  readonly resultWidth: number;
}

/** The adjoint of one row transform. */
class StepBack {
  readonly #f: FunctionBuilder;
  readonly #emission: Emission;
  readonly #at: RowPlace;
  readonly #step: Step;
  readonly #channel: Local<'i32'>;
  readonly #last: Local<'i32'>;

  constructor(f: FunctionBuilder, emission: Emission, at: RowPlace, step: Step) {
    this.#f = f;
    this.#emission = emission;
    this.#at = at;
    this.#step = step;
    this.#channel = f.local('channel', 'i32');
    this.#last = f.let('last', i32.sub(step.width, 1));
  }

  emit(transform: RowTransform): void {
    switch (transform.kind) {
      case 'projection':
        this.#project(transform.table, transform.perHead);
        return;
      case 'norm':
        this.#norm(transform);
        return;
      case 'rope':
        this.#turn(transform.pairing, transform.width ?? this.#step.width);
        return;
      case 'elementwise':
        this.#each(differentiate(transform.expression, { kind: 'input', type: 'f32', name: 'element' }));
        return;
      case 'featureMap':
        this.#map(transform.map);
    }
  }

  /** One number of a row. */
  #get(row: Local<'i32'>, channel: Value<'i32'> | number): Value<'f32'> {
    return typeof channel === 'number' ? f32.load(row, channel * 4) : f32.load(i32.add(row, i32.shl(channel, 2)));
  }

  #put(row: Local<'i32'>, channel: Value<'i32'>, value: Value<'f32'>): void {
    this.#f.do(f32.store(i32.add(row, i32.shl(channel, 2)), value));
  }

  #channels(to: number, body: (channel: Local<'i32'>) => void): void {
    const f = this.#f;
    const channel = f.local('c', 'i32');
    f.for(channel, { to, atLeastOnce: true }, () => {
      body(channel);
    });
  }

  #place(inputs: { readonly element?: Local<'v128'> }): Place {
    const f = this.#f;
    const { sequence, head, index, call } = this.#at;
    const { position } = this.#step;
    const channels = f.let('channels', i32x4.add(i32x4.splat(this.#channel), laneNumbers()));
    const batch = f.let('batch', i32.load(sequence, this.#emission.layouts.sequence.offset('batch')));
    return new Place(f, surroundings(this.#emission, call), { inputs: { ...inputs, channel: channels, batch, head, index, position }, fixed: [], lanes: { input: 'channel', first: this.#channel, last: this.#last } });
  }

  /** A number that depends on the row alone. */
  #scalar(expression: Expression): Local<'f32'> {
    this.#f.set(this.#channel, 0);
    return this.#f.let('scalar', f32x4.extract_lane(this.#place({}).evaluate(expression), 0));
  }

  #each(slope: Expression): void {
    const f = this.#f;
    const { row, gradient, result, width } = this.#step;
    f.for(this.#channel, { to: width, step: 4, atLeastOnce: true }, () => {
      const bytes = f.let('bytes', i32.shl(this.#channel, 2));
      const element = f.let('element', v128.load(i32.add(row, bytes)));
      const by: Vector = this.#place({ element }).evaluate(slope);
      f.do(v128.store(i32.add(result, bytes), f32x4.mul(v128.load(i32.add(gradient, bytes)), by)));
    });
    this.#clearTail();
  }

  /** Zeros behind the gradient, which sums may then run over. */
  #clearTail(): void {
    const { result, width } = this.#step;
    const rest = width % 4;
    if (rest === 0) return;
    const offset = (width - rest) * 4;
    const kept = lanesI32x4([-1, rest > 1 ? -1 : 0, rest > 2 ? -1 : 0, 0]);
    this.#f.do(v128.store(result, v128.and(v128.load(result, offset), kept), offset));
  }

  #sum(to: number, term: (channel: Local<'i32'>) => Value<'f32'>): Local<'f32'> {
    const f = this.#f;
    const total = f.local('total', 'f32');
    f.set(total, 0);
    this.#channels(to, (channel) => {
      f.set(total, f32.add(total, term(channel)));
    });
    return total;
  }

  #norm(transform: Extract<RowTransform, { kind: 'norm' }>): void {
    const f = this.#f;
    const { row, gradient, result, width } = this.#step;
    const epsilon = this.#scalar(transform.epsilon);
    const centre = f.local('centre', 'f32');
    f.set(centre, transform.norm === 'layer' ? f32.div(this.#sum(width, (channel) => this.#get(row, channel)), width) : f32.mul(epsilon, 0));
    const squares = this.#sum(width, (channel) => {
      const moved = f.let('moved', f32.sub(this.#get(row, channel), centre));
      return f32.mul(moved, moved);
    });
    const length = f.let('length', f32.sqrt(squares));
    const divisor = f.let('divisor', transform.norm === 'l2' ? f32.max(length, epsilon) : f32.sqrt(f32.add(f32.div(squares, width), epsilon)));
    if (transform.gain !== null) {
      const gain = transform.gain;
      f.for(this.#channel, { to: width, step: 4, atLeastOnce: true }, () => {
        const there = f.let('there', i32.add(gradient, i32.shl(this.#channel, 2)));
        f.do(v128.store(there, f32x4.mul(v128.load(there), this.#place({}).evaluate(gain))));
      });
    }
    const unit = (channel: Local<'i32'>): Value<'f32'> => f32.div(f32.sub(this.#get(row, channel), centre), divisor);
    const along = this.#sum(width, (channel) => f32.mul(this.#get(gradient, channel), unit(channel)));
    const shift = f.local('shift', 'f32');
    f.set(shift, 0);
    if (transform.norm === 'l2') {
      // A row that is shorter than ε is only divided by it.
      f.if(f32.le(length, epsilon), () => {
        f.set(along, 0);
      });
    } else {
      f.set(along, f32.div(along, width));
      if (transform.norm === 'layer') f.set(shift, f32.div(this.#sum(width, (channel) => this.#get(gradient, channel)), width));
    }
    this.#channels(width, (channel) => {
      this.#put(result, channel, f32.div(f32.sub(f32.sub(this.#get(gradient, channel), shift), f32.mul(unit(channel), along)), divisor));
    });
  }

  /** result[d] = Σ_w gradient[w] · table[w, d]. */
  #project(table: string, perHead: boolean): void {
    const f = this.#f;
    const { gradient, result, width, resultWidth } = this.#step;
    const word = (name: string): Value<'i32'> => i32.load(this.#at.call, this.#emission.layouts.call.offset(name));
    const axis = perHead ? 1 : 0;
    const base = f.let('matrix', perHead ? i32.add(word(tableWord(table)), i32.mul(this.#at.head, word(tableStrideWord(table, 0)))) : word(tableWord(table)));
    this.#channels(resultWidth, (from) => {
      const factor = f.let('factor', this.#get(gradient, from));
      const start = f.let('matrixRow', i32.add(base, i32.mul(from, word(tableStrideWord(table, axis)))));
      this.#channels(width, (channel) => {
        const entry = f32.load(i32.add(start, i32.mul(channel, word(tableStrideWord(table, axis + 1)))));
        this.#put(result, channel, f32.add(this.#get(result, channel), f32.mul(factor, entry)));
      });
    });
  }

  /** The rotation turned back: each channel gets its own cosine, and its partner's signed sine. */
  #turn(pairing: 'half' | 'interleaved', turned: number): void {
    const f = this.#f;
    const { side, index, gradient, result, width } = this.#step;
    const turns = f.let('turns', i32.add(i32.load(this.#at.sequence, this.#emission.layouts.sequence.offset(turnWord(side, index))), i32.mul(this.#at.index, turned * 8)));
    this.#channels(width, (channel) => {
      this.#put(result, channel, this.#get(gradient, channel));
    });
    this.#channels(turned, (channel) => {
      const partner = f.let('partner', pairing === 'half' ? i32.rem_s(i32.add(channel, turned / 2), turned) : i32.xor(channel, 1));
      const sines = f.let('sines', i32.add(turns, turned * 4));
      this.#put(result, channel, f32.add(f32.mul(this.#get(gradient, channel), this.#get(turns, channel)), f32.mul(this.#get(gradient, partner), this.#get(sines, partner))));
    });
  }

  #map(map: FeatureMapRule): void {
    switch (map.rule) {
      case 'hedgehog':
        this.#hedgehog(map.softmax);
        return;
      case 'favor':
        this.#favor(map.table, map.features);
        return;
      case 'cosformer':
        this.#cosformer();
        return;
      case 'based':
        this.#based();
        return;
      case 'dpfp':
        this.#dpfp(map.order);
    }
  }

  #exponential(value: Value<'f32'>): Local<'f32'> {
    const lanes = { f: this.#f, fused: this.#emission.plan.machine.fused };
    return this.#f.let('exponential', f32x4.extract_lane(exp(lanes, f32x4.splat(value)), 0));
  }

  #hedgehog(softmax: boolean): void {
    const f = this.#f;
    const { row, gradient, result, width } = this.#step;
    const largest = f.local('largest', 'f32');
    const total = f.local('total', 'f32');
    const inner = f.local('inner', 'f32');
    f.set(largest, 0);
    f.set(total, 1);
    f.set(inner, 0);
    const feature = (channel: Local<'i32'>, sign: 1 | -1): Value<'f32'> => {
      const x = this.#get(row, channel);
      return f32.div(this.#exponential(f32.sub(sign === 1 ? x : f32.neg(x), largest)), total);
    };
    if (softmax) {
      this.#channels(width, (channel) => {
        f.set(largest, f32.max(largest, f32.abs(this.#get(row, channel))));
      });
      f.set(total, this.#sum(width, (channel) => f.let('both', f32.add(this.#exponential(f32.sub(this.#get(row, channel), largest)), this.#exponential(f32.sub(f32.neg(this.#get(row, channel)), largest))))));
      f.set(inner, this.#sum(width, (channel) => f.let('both', f32.add(f32.mul(feature(channel, 1), this.#get(gradient, channel)), f32.mul(feature(channel, -1), this.#get(gradient, i32.add(channel, width)))))));
    }
    this.#channels(width, (channel) => {
      const plus = f.let('plus', f32.mul(feature(channel, 1), f32.sub(this.#get(gradient, channel), inner)));
      const minus = f.let('minus', f32.mul(feature(channel, -1), f32.sub(this.#get(gradient, i32.add(channel, width)), inner)));
      this.#put(result, channel, f32.sub(plus, minus));
    });
  }

  #favor(table: string, features: number): void {
    const f = this.#f;
    const { row, gradient, result, width } = this.#step;
    const word = (name: string): Value<'i32'> => i32.load(this.#at.call, this.#emission.layouts.call.offset(name));
    const shrink = width ** -0.25;
    const half = f.let('half', f32.mul(this.#sum(width, (channel) => f32.mul(this.#get(row, channel), this.#get(row, channel))), (shrink * shrink) / 2));
    this.#channels(features, (feature) => {
      const start = f.let('frequencies', i32.add(word(tableWord(table)), i32.mul(feature, word(tableStrideWord(table, 0)))));
      const entry = (channel: Local<'i32'>): Value<'f32'> => f32.load(i32.add(start, i32.mul(channel, word(tableStrideWord(table, 1)))));
      const projected = this.#sum(width, (channel) => f32.mul(f32.mul(this.#get(row, channel), shrink), entry(channel)));
      const weight = f.let('weight', f32.mul(f32.mul(this.#exponential(f32.sub(projected, half)), features ** -0.5), this.#get(gradient, feature)));
      this.#channels(width, (channel) => {
        const slope = f32.mul(f32.sub(entry(channel), f32.mul(this.#get(row, channel), shrink)), shrink);
        this.#put(result, channel, f32.add(this.#get(result, channel), f32.mul(weight, slope)));
      });
    });
  }

  #cosformer(): void {
    const f = this.#f;
    const { side, index, row, gradient, result, width } = this.#step;
    const turn = f.let('turn', i32.add(i32.load(this.#at.sequence, this.#emission.layouts.sequence.offset(turnWord(side, index))), i32.shl(this.#at.index, 3)));
    this.#channels(width, (channel) => {
      f.if(f32.ge(this.#get(row, channel), 0), () => {
        this.#put(result, channel, f32.add(f32.mul(this.#get(gradient, channel), f32.load(turn)), f32.mul(this.#get(gradient, i32.add(channel, width)), f32.load(turn, 4))));
      });
    });
  }

  #based(): void {
    const f = this.#f;
    const { row, gradient, result, width } = this.#step;
    const add = (channel: Local<'i32'>, value: Value<'f32'>): void => {
      this.#put(result, channel, f32.add(this.#get(result, channel), value));
    };
    const product = f.let('pair', i32.mul(this.#last, 0));
    f.set(product, 1 + 2 * width);
    this.#channels(width, (channel) => {
      add(channel, f32.mul(this.#get(gradient, i32.add(channel, 1)), width ** -0.25));
      add(channel, f32.mul(f32.mul(this.#get(gradient, i32.add(channel, 1 + width)), this.#get(row, channel)), 2 * (2 * width) ** -0.5));
      const second = f.local('second', 'i32');
      f.for(second, { from: i32.add(channel, 1), to: width }, () => {
        const value = f.let('value', f32.mul(this.#get(gradient, product), width ** -0.5));
        add(channel, f32.mul(value, this.#get(row, second)));
        add(second, f32.mul(value, this.#get(row, channel)));
        f.set(product, i32.add(product, 1));
      });
    });
  }

  /** r = relu([x; −x]); the gradient of r ⊙ roll(r, n) goes to both factors, then through relu to x. */
  #dpfp(order: number): void {
    const f = this.#f;
    const { row, gradient, result, width } = this.#step;
    const doubled = 2 * width;
    const rolled = f.local('rolled', 'i32');
    /** Sign, place and slope of r at an index. */
    const part = (index: Local<'i32'>): { readonly channel: Local<'i32'>; readonly sign: Local<'f32'>; readonly value: Local<'f32'> } => {
      const isMirrored = f.let('mirrored', i32.ge_s(index, width));
      const channel = f.let('from', i32.sub(index, i32.mul(isMirrored, width)));
      const sign = f.let('sign', f32.sub(f32.convert_i32_s(i32.eqz(isMirrored)), f32.convert_i32_s(isMirrored)));
      return { channel, sign, value: f.let('signed', f32.mul(sign, this.#get(row, channel))) };
    };
    for (let roll = 1; roll <= order; roll += 1) {
      this.#channels(doubled, (index) => {
        f.set(rolled, i32.rem_s(i32.add(index, doubled * order - roll), doubled));
        const outer = f.let('outer', this.#get(gradient, i32.add(index, (roll - 1) * doubled)));
        const [left, right] = [part(index), part(rolled)];
        const give = (to: typeof left, other: typeof left): void => {
          f.if(f32.ge(to.value, 0), () => {
            this.#put(result, to.channel, f32.add(this.#get(result, to.channel), f32.mul(f32.mul(to.sign, outer), f32.max(other.value, 0))));
          });
        };
        give(left, right);
        give(right, left);
      });
    }
  }
}
