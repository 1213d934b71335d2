import type { ObservedStage } from '@heed/core';
import type { FunctionBuilder, Local, Value } from '@heed/runtime-wasm';
import { call as callTo, constantF32x4, exp, instructions, log, minusInfinity, queryTableRowsWord } from '@heed/runtime-wasm';
import { stageWord } from '../layouts.ts';
import { readWords, scoreRowBytes, stateWords, valueRowBytes, word, type Callee, type Emission } from './context.ts';
import type { Guard } from './guard.ts';
import { clearBlock, panelAt, readTask } from './prefill.ts';
import { allowedLanes, boundKeys, PairPlace, type KeyBounds } from './pairs.ts';

const { f32, f32x4, i32, i32x4, v128 } = instructions;

export interface RowParts {
  readonly loadQueries: Callee;
  readonly scores: Callee;
  readonly settle: Callee;
  readonly normalizeRow: Callee;
  readonly reweigh: Callee;
  readonly values: Callee;
  readonly guard: Guard;
  readonly reduce: Callee | null;
  readonly finish: Callee;
}

const tileParameters = {
  call: 'i32', sequence: 'i32', head: 'i32', rows: 'i32', rowCount: 'i32', tableProducts: 'i32',
  first: 'i32', width: 'i32', low: 'i32', high: 'i32', mixed: 'i32', tile: 'i32', scores: 'i32', terms: 'i32', stride: 'i32', states: 'i32', observed: 'i32',
} as const;

type TileLocals = { readonly [Name in keyof typeof tileParameters]: Local<'i32'> };

/** Runs over the pairs of a tile. `body` gets the place, and byte offsets from the start of the tile's and of the strip's row. */
function overPairs(f: FunctionBuilder, emission: Emission, locals: TileLocals, bounds: KeyBounds | null, body: (at: { readonly pairs: PairPlace; readonly key: Local<'i32'>; readonly row: Local<'i32'>; readonly state: Local<'i32'>; readonly tile: Local<'i32'>; readonly strip: Local<'i32'>; readonly bounds: KeyBounds | null }) => void): void {
  const { first, width, rowCount, stride, states } = locals;
  const [row, end] = [f.local('row', 'i32'), f.let('end', i32.add(first, width))];
  f.for(row, { to: rowCount, atLeastOnce: true }, () => {
    const key = f.local('key', 'i32');
    const pairs = new PairPlace(f, emission, { ...locals, blockQuery: emission.plan.blockQuery }, row, key);
    const state = f.let('state', i32.add(states, i32.mul(row, stateWords.bytes)));
    const tile = f.let('tileRow', i32.mul(row, scoreRowBytes(emission.plan)));
    const strip = f.let('stripRow', i32.mul(row, stride));
    f.for(key, { from: first, to: end, step: 4, atLeastOnce: true }, () => {
      pairs.enterKeys();
      body({ pairs, key, row, state, tile, strip, bounds });
      f.set(tile, i32.add(tile, 16));
      f.set(strip, i32.add(strip, 16));
    });
  });
}

/**
 * settle(…): a tile of raw scores to the strips of whole rows: final scores, −∞ at keys that do not count, and the terms that the normalization takes.
 * Stages that are looked at are written as they appear.
 */
export function emitSettle(emission: Emission): Callee {
  const { module, request, plan } = emission;
  const { scoring, normalization } = request.variant;
  const { rule } = normalization;
  return module.function('settle', { parameters: tileParameters }, (f, locals) => {
    const walk = (bounds: KeyBounds | null): void => {
      overPairs(f, emission, locals, bounds, ({ pairs, key, row, state, tile, strip }) => {
        const score = f.let('score', v128.load(i32.add(locals.tile, tile)));
        observe(f, emission, locals, 'scores', row, key, score);
        for (const { expression } of scoring.modifiers) f.set(score, pairs.place.evaluate(expression, { score }));
        observe(f, emission, locals, 'modified', row, key, score);
        if (bounds !== null) f.set(score, v128.bitselect(score, bounds.none, allowedLanes(f, emission, pairs, key, bounds)));
        observe(f, emission, locals, 'masked', row, key, score);
        const kept = f.let('kept', f32x4.ne(score, minusInfinity()));
        f.do(v128.store(state, f32x4.add(v128.load(state, stateWords.poison), f32x4.mul(v128.and(score, kept), constantF32x4(0))), stateWords.poison));
        f.do(v128.store(state, i32x4.sub(v128.load(state, stateWords.count), kept), stateWords.count));
        f.do(v128.store(i32.add(locals.scores, strip), score));
        const term = pairs.place.evaluate(rule.score, { score });
        const none = rule.kind === 'elementwise' || rule.kind === 'rowSum' ? constantF32x4(0) : minusInfinity();
        f.do(v128.store(i32.add(locals.terms, strip), v128.bitselect(term, none, kept)));
      });
    };
    if (plan.observed.length > 0) walk(boundKeys(f, locals.low, locals.high));
    else f.if(locals.mixed, () => {
      walk(boundKeys(f, locals.low, locals.high));
    }, () => {
      walk(null);
    });
  });
}

/** Writes four numbers of a stage, those that stand for keys of the sequence. */
function observe(f: FunctionBuilder, { plan, layouts }: Emission, { call, sequence, observed }: TileLocals, stage: ObservedStage, row: Local<'i32'>, key: Local<'i32'>, value: Local<'v128'>): void {
  if (!plan.observed.includes(stage)) return;
  const base = i32.add(word(call, layouts.call.offset(stageWord(stage))), observed);
  const target = f.let('target', i32.add(base, i32.add(i32.mul(row, word(call, layouts.call.offset('observed.row'))), i32.shl(key, 2))));
  const last = f.let('last', word(sequence, layouts.sequence.offset('lastKey')));
  for (const lane of [0, 1, 2, 3]) {
    f.if(i32.le_s(i32.add(key, lane), last), () => {
      f.do(v128.store32_lane(target, value, lane, lane * 4));
    });
  }
}

/** reweigh(…): the weights of a tile's keys in the strip, reweighed; what is looked at on the way. */
export function emitReweigh(emission: Emission): Callee {
  const { module, request, plan, layouts } = emission;
  const { reweigh } = request.variant.normalization;
  return module.function('reweigh', { parameters: { ...tileParameters, mass: 'i32' } }, (f, locals) => {
    overPairs(f, emission, locals, null, ({ pairs, key, row, state, strip }) => {
      const place = f.let('place', i32.add(locals.terms, strip));
      const kept = f.let('kept', f32x4.ne(v128.load(i32.add(locals.scores, strip)), minusInfinity()));
      // An empty row was divided by 0.
      const weight = f.let('weight', v128.and(v128.load(place), kept));
      if (plan.observed.includes('weights')) {
        const poison = f.let('poison', v128.load(state, stateWords.poison));
        const spread = f32x4.add(f32x4.splat(f32x4.extract_lane(poison, 0)), f32x4.add(f32x4.splat(f32x4.extract_lane(poison, 1)), f32x4.add(f32x4.splat(f32x4.extract_lane(poison, 2)), f32x4.splat(f32x4.extract_lane(poison, 3)))));
        observe(f, emission, locals, 'weights', row, key, f.let('seen', f32x4.add(weight, v128.and(spread, kept))));
      }
      if (reweigh.kind !== 'input') {
        f.set(weight, v128.and(pairs.place.evaluate(reweigh, { weight }), kept));
        f.do(v128.store(place, weight));
      }
      if (!plan.observesMass) return;
      const mass = f.let('massAt', i32.add(locals.mass, i32.shl(key, 2)));
      const last = f.let('last', word(locals.sequence, layouts.sequence.offset('lastKey')));
      for (const lane of [0, 1, 2, 3]) {
        f.if(i32.le_s(i32.add(key, lane), last), () => {
          f.do(f32.store(mass, f32.add(f32.load(mass, lane * 4), f32x4.extract_lane(weight, lane)), lane * 4));
        });
      }
    });
  });
}

/** reduce(…): max or ln Σ e of weighted values over the keys that count, row by row and channel by channel. */
export function emitReduce(emission: Emission): Callee | null {
  const { module, request, plan, layouts } = emission;
  const { reduction } = request.variant.aggregation;
  if (reduction === 'sum') return null;
  const parameters = { tiles: 'i32', tileCount: 'i32', values: 'i32', scores: 'i32', weights: 'i32', target: 'i32' } as const;
  return module.function('reduce', { parameters }, (f, { tiles, tileCount, values, scores, weights, target }) => {
    const [channel, peak, sum] = [f.local('channel', 'i32'), f.local('peak', 'v128'), f.local('sum', 'v128')];
    const lanes = { f, fused: plan.machine.fused };
    const walk = (body: (weight: Local<'v128'>, value: Local<'v128'>) => void): void => {
      const [tile, count, key, column] = [f.let('tile', tiles), f.local('count', 'i32'), f.local('key', 'i32'), f.local('column', 'i32')];
      f.set(column, 0);
      f.for(count, { to: tileCount }, () => {
        const { first, end } = readWords(f, tile, layouts.tile, ['first', 'end']);
        f.for(key, { from: first, to: end }, () => {
          f.if(f32.ne(f32.load(i32.add(scores, column)), -Infinity), () => {
            const weight = f.let('weight', v128.load32_splat(i32.add(weights, column)));
            const value = f.let('value', v128.load(i32.add(values, i32.add(i32.mul(key, valueRowBytes(plan)), channel))));
            body(weight, value);
          });
          f.set(column, i32.add(column, 4));
        });
        f.set(tile, i32.add(tile, layouts.tile.bytes));
      });
    };
    f.for(channel, { to: valueRowBytes(plan), step: 16, atLeastOnce: true }, () => {
      f.set(peak, minusInfinity());
      walk((weight, value) => {
        f.set(peak, f32x4.max(peak, reduction === 'max' ? f32x4.mul(weight, value) : value));
      });
      if (reduction === 'logSumExp') {
        f.set(sum, constantF32x4(0));
        const origin = f.let('origin', v128.bitselect(constantF32x4(0), peak, f32x4.eq(peak, minusInfinity())));
        walk((weight, value) => {
          f.set(sum, f32x4.add(sum, f32x4.mul(weight, exp(lanes, f32x4.sub(value, origin)))));
        });
        f.set(peak, v128.bitselect(peak, f32x4.add(origin, log(lanes, sum)), f32x4.eq(peak, minusInfinity())));
      }
      f.do(v128.store(i32.add(target, channel), peak));
    });
  });
}

/**
 * rows: a task is a list of query rows of one head, a block at a time, and then the next task of its chain. All scores of a block are held:
 *   scores → final scores and terms → weights of whole rows → reweighed → values brought together; at the end the output.
 */
export function emitRows(emission: Emission, parts: RowParts): void {
  const { module } = emission;
  module.function('rows', { parameters: { task: 'i32', call: 'i32', scratch: 'i32' }, export: true }, (f, { task, call, scratch: base }) => {
    const index = f.let('index', task);
    f.loop('chain', (again) => {
      emitRowsTask(f, emission, parts, index, call, base);
      const next = readTask(f, emission, index, call, base).record.next;
      f.set(index, next);
      f.brIf(again, i32.ge_s(index, 0));
    });
  });
}

function emitRowsTask(f: FunctionBuilder, emission: Emission, parts: RowParts, task: Local<'i32'>, call: Local<'i32'>, base: Local<'i32'>): void {
  const { plan, layouts, request } = emission;
  const { record, scratch, keys, values } = readTask(f, emission, task, call, base);
  const { sequence, head } = record;
  const stride = f.let('stride', i32.shl(word(call, layouts.call.offset('columns')), 2));
  const products = plan.queryTables.reduce<Value<'i32'>>((sum, name) => i32.add(sum, i32.mul(word(call, layouts.call.offset(queryTableRowsWord(name))), plan.blockQuery * 4)), i32.add(scratch.end, 0));
  const scores = f.let('scoreStrip', i32.and(i32.add(products, 15), -16));
  const terms = f.let('termStrip', i32.add(scores, i32.mul(stride, plan.blockQuery)));
  const [start, rowCount] = [f.local('start', 'i32'), f.local('rowCount', 'i32')];
  const observed = f.let('observedRow', record.observed);
  f.for(start, { to: record.rowCount, step: plan.blockQuery }, () => {
    f.set(rowCount, i32.sub(record.rowCount, start));
    f.if(i32.gt_s(rowCount, plan.blockQuery), () => {
      f.set(rowCount, plan.blockQuery);
    });
    const rows = f.let('rowsAt', i32.add(record.rows, i32.shl(start, 2)));
    const groups = f.let('groups', i32.div_u(i32.add(rowCount, plan.tile.rows - 1), plan.tile.rows));
    const valueGroups = f.let('valueGroups', i32.div_u(i32.add(rowCount, plan.valueRows - 1), plan.valueRows));
    f.do(callTo(parts.loadQueries, call, sequence, head, rows, rowCount, scratch.rows, scratch.queries, scratch.end));
    clearBlock(f, emission, scratch.states, scratch.sums, scratch.factors);
    const column = f.local('column', 'i32');
    const overTiles = (body: (tile: Readonly<Record<'first' | 'width' | 'low' | 'high' | 'mixed', Local<'i32'>>>) => void): void => {
      const [tile, count] = [f.let('tile', record.tiles), f.local('count', 'i32')];
      f.set(column, 0);
      f.for(count, { to: record.tileCount }, () => {
        const { first, end, low, high, mixed } = readWords(f, tile, layouts.tile, ['first', 'end', 'low', 'high', 'mixed']);
        const width = f.let('width', i32.sub(end, first));
        body({ first, width, low, high, mixed });
        f.set(column, i32.add(column, i32.shl(width, 2)));
        f.set(tile, i32.add(tile, layouts.tile.bytes));
      });
    };
    f.comment('scores of whole rows');
    overTiles(({ first, width, low, high, mixed }) => {
      f.do(callTo(parts.scores, call, sequence, head, scratch.queries, panelAt(emission, keys, first), width, groups, scratch.scores));
      f.do(callTo(parts.settle, call, sequence, head, rows, rowCount, scratch.end, first, width, low, high, mixed, scratch.scores, i32.add(scores, column), i32.add(terms, column), stride, scratch.states, observed));
    });
    f.comment('weights of whole rows');
    const row = f.local('row', 'i32');
    const sinks = f.let('sinks', word(sequence, layouts.sequence.offset('sinks')));
    const sink = f.local('sink', 'f32');
    f.set(sink, -Infinity);
    if (request.variant.normalization.rule.kind === 'softmax') f.set(sink, f32.load(i32.add(sinks, i32.shl(head, 2))));
    f.for(row, { to: rowCount }, () => {
      f.do(callTo(parts.normalizeRow, call, i32.add(terms, i32.mul(row, stride)), column, i32.add(scratch.states, i32.mul(row, stateWords.bytes)), sink));
    });
    overTiles(({ first, width, low, high, mixed }) => {
      f.do(callTo(parts.reweigh, call, sequence, head, rows, rowCount, scratch.end, first, width, low, high, mixed, scratch.scores, i32.add(scores, column), i32.add(terms, column), stride, scratch.states, observed, record.mass));
    });
    if (plan.observed.length === 0 && !plan.observesMass) {
      f.comment('values');
      const { reduce } = parts;
      if (reduce === null) {
        overTiles(({ first, width, mixed }) => {
          const value = f.let('value', i32.add(values, i32.mul(first, valueRowBytes(plan))));
          copyTile(f, emission, { from: f.let('from', i32.add(terms, column)), stride, rowCount, width, to: scratch.weights });
          f.if(i32.and(mixed, i32.eqz(callTo(parts.guard.isFinite, value, width) as Value<'i32'>)), () => {
            copyTile(f, emission, { from: f.let('from', i32.add(scores, column)), stride, rowCount, width, to: scratch.scores });
            f.do(callTo(parts.guard.guarded, scratch.scores, scratch.weights, value, width, rowCount, valueGroups, scratch.factors, scratch.sums, scratch.values));
          }, () => {
            f.do(callTo(parts.values, scratch.weights, value, width, valueGroups, scratch.factors, scratch.sums));
          });
        });
      } else {
        f.for(row, { to: rowCount }, () => {
          f.do(callTo(reduce, record.tiles, record.tileCount, values, i32.add(scores, i32.mul(row, stride)), i32.add(terms, i32.mul(row, stride)), i32.add(scratch.sums, i32.mul(row, valueRowBytes(plan)))));
        });
      }
      f.do(callTo(parts.finish, call, sequence, head, rows, rowCount, scratch.states, scratch.sums));
    } else f.set(observed, i32.add(observed, i32.mul(rowCount, word(call, layouts.call.offset('observed.row')))));
  });
}

/** A tile's columns of a strip to rows of a tile. */
function copyTile(f: FunctionBuilder, { plan }: Emission, { from, stride, rowCount, width, to }: { readonly from: Local<'i32'>; readonly stride: Local<'i32'>; readonly rowCount: Local<'i32'>; readonly width: Local<'i32'>; readonly to: Local<'i32'> }): void {
  const [row, place, bytes] = [f.local('row', 'i32'), f.local('place', 'i32'), f.let('bytes', i32.shl(width, 2))];
  f.for(row, { to: rowCount }, () => {
    f.for(place, { to: bytes, step: 16 }, () => {
      f.do(v128.store(i32.add(i32.add(to, i32.mul(row, scoreRowBytes(plan))), place), v128.load(i32.add(i32.add(from, i32.mul(row, stride)), place))));
    });
  });
}
