/**
 * Kernels of a gradient rule: one task is one lane, a value head of one sequence, whose weights stand in memory of its own from `begin` to `end`.
 * `advance` takes some tokens of each lane, so that a job of many phases can be stopped between any two.
 */
import type { RowTransform, TableDeclaration } from '@heed/core';
import { transformedWidth } from '@heed/core';
import { call as callTo, instructions, kernelParameters, loadRow, ModuleBuilder, storeRow, tableStrideWord, tableWord, transformRow, turnWord, uniformWord, words, type FunctionBuilder, type FunctionReference, type Local, type Machine, type Value, type Words } from '@heed/runtime-wasm';
import type { StatePart, TrainingPlan, TrainingStep } from '../plan.ts';
import type { LaneCode } from './lane-code.ts';
import { emitProduct } from './product.ts';
import { emitRates } from './rates.ts';
import { emitAppend, emitConvolve } from './chunk.ts';
import { emitClear, emitCombine, emitCopy, emitError, emitFinish, emitMap, emitScale, emitScaleRows, overRow, overTokens, rowOf } from './rows.ts';

const { f32, f32x4, i32, v128 } = instructions;

export const kernelNames = ['begin', 'advance', 'end'] as const;

export const scalarInputs = ['writeStrength', 'logDecay', 'momentum'] as const;
export const rowInputs = ['query', 'key', 'value', 'output'] as const;

/** What code depends on beside the plan. */
export interface TrainingSource {
  readonly plan: TrainingPlan;
  readonly queryTransforms: readonly RowTransform[];
  readonly keyTransforms: readonly RowTransform[];
  readonly positionPeriod: number | null;
  /** Width of queries and keys before their transforms. */
  readonly dim: number;
  readonly dtypes: Readonly<Record<(typeof rowInputs)[number], 'f32' | 'f16' | 'bf16'>>;
  readonly tables: Readonly<Record<string, TableDeclaration>>;
  readonly uniforms: readonly string[];
}

/** What the host tells the kernels. Addresses, and steps in bytes; 0 along an axis that repeats. */
export interface TrainingLayouts {
  /** Arguments of each phase: where the lanes' records stand, and which tokens. */
  readonly call: Words;
  readonly sequence: Words;
  /** A value head of a sequence: its rows, its state before (0: zeros) and after. */
  readonly lane: Words;
}

export function trainingLayouts({ plan, tables, uniforms, queryTransforms, keyTransforms }: TrainingSource): TrainingLayouts {
  const turns = (['query', 'key'] as const).flatMap((side) => (side === 'query' ? queryTransforms : keyTransforms).map((_, index) => turnWord(side, index)));
  return {
    call: words(['records', 'first', 'end', ...uniforms.map(uniformWord), ...Object.entries(tables).flatMap(([name, { axes }]) => [tableWord(name), ...axes.map((_, axis) => tableStrideWord(name, axis))])]),
    sequence: words(['batch', 'position', ...turns]),
    lane: words([
      'memory', 'sequence', 'head', 'length', 'filled.from', 'filled', 'filled.now', 'rate', 'epsilon',
      ...rowInputs.flatMap((name) => [name, `${name}.row`, `${name}.channel`]),
      ...scalarInputs.flatMap((name) => [name, `${name}.step`]),
      ...plan.tables.flatMap(({ matrix: { name } }) => [name, `${name}.rowStep`, `${name}.columnStep`]),
      ...plan.state.flatMap(({ state }) => [`${state}.from`, `${state}.rowStep`, `${state}.columnStep`, state]),
    ]),
  };
}

/** Floats of each of the two buffers that row transforms work in. */
export function transformFloats({ queryTransforms, keyTransforms, dim }: TrainingSource): number {
  const widths = [queryTransforms, keyTransforms].flatMap((transforms) => {
    let width = dim;
    return [dim, ...transforms.map((transform) => (width = transformedWidth(transform, width)))];
  });
  return Math.ceil(Math.max(...widths) / 4) * 4;
}

export function emitTraining(source: TrainingSource, machine: Machine): ModuleBuilder {
  const { plan } = source;
  const module = new ModuleBuilder('test-time training');
  module.importMemory('env', 'memory', { shared: machine.shared });
  const layouts = trainingLayouts(source);
  const rows = { query: emitRow(module, source, machine, 'query'), key: emitRow(module, source, machine, 'key') };
  const bodies: Readonly<Record<(typeof kernelNames)[number], (lane: Lane) => void>> = { begin, advance, end };
  for (const name of kernelNames) {
    module.function(name, { parameters: kernelParameters, export: true }, (f, { task, words: phase, scratch }) => {
      const layout = layouts.lane;
      const record = f.let('record', i32.add(i32.load(phase, layouts.call.offset('records')), i32.mul(task, layout.bytes)));
      const word = (wanted: string): Value<'i32'> => i32.load(record, layout.offset(wanted));
      const float = (wanted: string): Value<'f32'> => f32.load(record, layout.offset(wanted));
      const range = (wanted: 'first' | 'end'): Value<'i32'> => i32.load(phase, layouts.call.offset(wanted));
      bodies[name]({ f, source, plan, machine, phase, range, scratch, record, layout, word, float, rows, memory: f.let('memory', word('memory')) });
    });
  }
  return module;
}

/** row(call, scratch, sequence, head, index, address, channelBytes, target): one query or key row as float32, transformed. */
function emitRow(module: ModuleBuilder, source: TrainingSource, machine: Machine, side: 'query' | 'key'): FunctionReference {
  const transforms = side === 'query' ? source.queryTransforms : source.keyTransforms;
  const layouts = trainingLayouts(source);
  return module.function(`${side} row`, { parameters: { call: 'i32', scratch: 'i32', sequence: 'i32', head: 'i32', index: 'i32', address: 'i32', channelBytes: 'i32', target: 'i32' } }, (f, { call, scratch, sequence, head, index, address, channelBytes, target }) => {
    const dtype = source.dtypes[side];
    if (transforms.length === 0) {
      loadRow(f, dtype, source.dim, address, channelBytes, target);
      return;
    }
    const position = f.let('position', i32.add(index, i32.load(sequence, layouts.sequence.offset('position'))));
    const period = source.positionPeriod;
    if (period !== null) {
      f.set(position, i32.rem_s(position, period));
      f.if(i32.lt_s(position, 0), () => {
        f.set(position, i32.add(position, period));
      });
    }
    const surroundings = { plan: { machine, streams: [], rowFloats: transformFloats(source) }, layouts, tables: source.tables, call };
    const row = transformRow(f, surroundings, { side, transforms, dim: source.dim, dtype, sequence, head, index, position, address, channelBytes, work: scratch });
    overRow(f, source.plan.width, (at, mask) => {
      const vector = v128.load(i32.add(row, at));
      f.do(v128.store(i32.add(target, at), mask === null ? vector : v128.and(vector, mask)));
    });
  });
}

interface Lane {
  readonly f: FunctionBuilder;
  readonly source: TrainingSource;
  readonly plan: TrainingPlan;
  readonly machine: Machine;
  /** Address of the call's record. */
  readonly phase: Local<'i32'>;
  readonly range: (name: 'first' | 'end') => Value<'i32'>;
  readonly scratch: Local<'i32'>;
  readonly record: Local<'i32'>;
  readonly layout: Words;
  readonly word: (name: string) => Value<'i32'>;
  readonly float: (name: string) => Value<'f32'>;
  readonly memory: Local<'i32'>;
  readonly rows: Readonly<Record<'query' | 'key', FunctionReference>>;
}

/** Everything zero, then tables and the state. */
function begin(lane: Lane): void {
  const { f, plan, memory, record, layout, word } = lane;
  f.do(instructions.memory.fill(memory, 0, plan.size * 4));
  const gather = (name: string, from: Local<'i32'>, part: Pick<StatePart, 'matrix' | 'row' | 'rows' | 'columns'>): void => {
    overPart(lane, part, (to) => {
      gatherRow(f, { from, step: f.let('step', word(`${name}.columnStep`)), to, columns: part.columns });
      f.set(from, i32.add(from, word(`${name}.rowStep`)));
    });
  };
  for (const { matrix } of plan.tables) gather(matrix.name, f.let('from', word(matrix.name)), { matrix, row: 0, rows: matrix.rows, columns: matrix.columns });
  for (const part of plan.state) {
    const from = f.let('from', word(`${part.state}.from`));
    f.if(from, () => {
      gather(part.state, from, part);
    });
  }
  const filled = f.let('filled', word('filled.from'));
  f.do(i32.store(record, 0, layout.offset('filled.now')));
  f.if(filled, () => {
    f.do(i32.store(record, i32.trunc_sat_f32_s(f32.load(filled)), layout.offset('filled.now')));
  });
}

/** The state, dense. */
function end(lane: Lane): void {
  const { f, plan, word } = lane;
  for (const part of plan.state) {
    const to = f.let('to', word(part.state));
    f.if(to, () => {
      overPart(lane, part, (from) => {
        storeRow(f, 'f32', part.columns, from, to, f.let('channelBytes', i32.const(4)));
        f.set(to, i32.add(to, part.columns * 4));
      });
    });
  }
  const filled = f.let('filled', word('filled'));
  f.if(filled, () => {
    f.do(f32.store(filled, f32.convert_i32_s(word('filled.now'))));
  });
}

/** Pieces of at most `block` tokens, none across the end of a mini-batch. */
function advance(lane: Lane): void {
  const { f, plan, range, machine, record, layout, word } = lane;
  const { batch, block } = plan;
  const at = f.let('token', range('first'));
  const stop = f.let('stop', range('end'));
  const length = f.let('length', word('length'));
  f.if(i32.gt_s(stop, length), () => {
    f.set(stop, length);
  });
  const filled = f.let('filled', word('filled.now'));
  const [tokens, room, ends] = [f.local('tokens', 'i32'), f.local('room', 'i32'), f.local('ends', 'i32')];
  const code: LaneCode = { f, memory: lane.memory, tokens, tileRows: block === 1 ? 1 : 4, fused: machine.fused };
  f.while('pieces', () => i32.lt_s(at, stop), () => {
    f.set(tokens, i32.sub(stop, at));
    f.set(room, i32.sub(batch, filled));
    for (const most of [room, null]) {
      f.if(i32.gt_s(tokens, most ?? block), () => {
        f.set(tokens, most ?? i32.const(block));
      });
    }
    f.set(ends, i32.eq(tokens, room));
    loadPiece(lane, code, at);
    for (const step of plan.steps) emitStep(lane, code, step, { at, filled, ends });
    storePiece(lane, code, at);
    f.set(at, i32.add(at, tokens));
    f.set(filled, i32.add(filled, tokens));
    f.if(ends, () => {
      f.set(filled, 0);
    });
  });
  f.do(i32.store(record, filled, layout.offset('filled.now')));
}

interface Piece {
  readonly at: Local<'i32'>;
  readonly filled: Local<'i32'>;
  readonly ends: Local<'i32'>;
}

function emitStep(lane: Lane, code: LaneCode, step: TrainingStep, piece: Piece): void {
  const { f, plan, word, float } = lane;
  const epsilon = (): Value<'f32'> => f.let('epsilon', float('epsilon'));
  switch (step.step) {
    case 'product':
      f.comment(`${step.to.name} ← ${step.effect} ${step.left.name} × ${step.right.name}, ${step.form}`);
      emitProduct(code, step);
      return;
    case 'scaleRows':
      emitScaleRows(code, step);
      return;
    case 'map':
      emitMap(code, step);
      return;
    case 'error':
      emitError(code, plan, step, epsilon());
      return;
    case 'rates': {
      const input = (name: (typeof scalarInputs)[number]) => (token: Local<'i32'>): Value<'f32'> => f32.load(i32.add(word(name), i32.mul(i32.add(piece.at, token), word(`${name}.step`))));
      if (plan.rates === null) throw new RangeError('a plan without rates has no such step');
      emitRates(code, plan.rates, { writeStrength: input('writeStrength'), logDecay: input('logDecay'), momentum: input('momentum'), rate: f.let('rate', float('rate')), filled: piece.filled });
      return;
    }
    case 'finish':
      emitFinish(code, plan, step.from, epsilon());
      return;
    case 'combine':
      emitCombine(code, plan, step);
      return;
    case 'scale':
      emitScale(code, plan, step);
      return;
    case 'append':
      emitAppend(code, step, piece.filled);
      return;
    case 'convolve':
      emitConvolve(code, plan, step, f.let('rate', float('rate')));
      return;
    case 'clear':
      emitClear(code, step.to);
      return;
    case 'copy':
      emitCopy(code, step);
      return;
    case 'when':
      f.if(step.condition === 'batchBegan' ? piece.filled : piece.ends, () => {
        for (const inner of step.steps) emitStep(lane, code, inner, piece);
      });
  }
}

/** Rows of the piece, with a channel of ones where a bias meets it; the target is the value, or value − key. */
function loadPiece(lane: Lane, code: LaneCode, at: Local<'i32'>): void {
  const { f, plan, source, word, phase, scratch, rows } = lane;
  const { width, valueDim, subtractsKey } = plan;
  for (const [name, to] of [['key', plan.key], ['query', plan.query]] as const) {
    overTokens(code, (token) => {
      const target = rowOf(code, to, token);
      const index = f.let('index', i32.add(at, token));
      f.do(callTo(rows[name], phase, scratch, word('sequence'), word('head'), index, tokenAddress(lane, name, index), word(`${name}.channel`), target));
      if (to.columns > width) f.do(f32.store(target, 1, width * 4));
    });
  }
  overTokens(code, (token) => {
    const target = rowOf(code, plan.target, token);
    const index = f.let('index', i32.add(at, token));
    loadRow(f, source.dtypes.value, valueDim, f.let('value', tokenAddress(lane, 'value', index)), f.let('channelBytes', word('value.channel')), target);
    if (!subtractsKey) return;
    const key = rowOf(code, plan.key, token);
    overRow(f, valueDim, (place, mask) => {
      const there = f.let('there', i32.add(target, place));
      const wanted = f32x4.sub(v128.load(there), v128.load(i32.add(key, place)));
      f.do(v128.store(there, mask === null ? wanted : v128.and(wanted, mask)));
    });
  });
}

function tokenAddress({ word }: Lane, name: (typeof rowInputs)[number], index: Local<'i32'>): Value<'i32'> {
  return i32.add(word(name), i32.mul(index, word(`${name}.row`)));
}

function storePiece(lane: Lane, code: LaneCode, at: Local<'i32'>): void {
  const { f, plan, source, word } = lane;
  overTokens(code, (token) => {
    const target = f.let('target', tokenAddress(lane, 'output', f.let('index', i32.add(at, token))));
    storeRow(f, source.dtypes.output, plan.valueDim, rowOf(code, plan.output, token), target, f.let('channelBytes', word('output.channel')));
  });
}

/** Numbers that stand `step` bytes apart to a row of a matrix. */
function gatherRow(f: FunctionBuilder, { from, step, to, columns }: { readonly from: Local<'i32'>; readonly step: Local<'i32'>; readonly to: Local<'i32'>; readonly columns: number }): void {
  const source = f.let('source', from);
  const column = f.local('column', 'i32');
  f.for(column, { to: columns * 4, step: 4, atLeastOnce: true }, () => {
    f.do(f32.store(i32.add(to, column), f32.load(source)));
    f.set(source, i32.add(source, step));
  });
}

/** Every row of a part of the state in the lane's memory. */
function overPart({ f, memory }: Lane, { matrix, row, rows }: Pick<StatePart, 'matrix' | 'row' | 'rows'>, body: (address: Local<'i32'>) => void): void {
  const address = f.let('part', i32.add(memory, (matrix.at + row * matrix.stride) * 4));
  const index = f.local('index', 'i32');
  f.for(index, { to: rows, atLeastOnce: true }, () => {
    body(address);
    f.set(address, i32.add(address, matrix.stride * 4));
  });
}
