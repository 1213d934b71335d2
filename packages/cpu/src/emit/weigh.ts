import { pairExpressions } from '@heed/core/compute';
import type { FunctionBuilder, Local, Surroundings, Vector } from '@heed/runtime-wasm';
import { constantF32x4, Exponential, instructions, laneNumbers, largestLane, minusInfinity, Place, queryTableRows } from '@heed/runtime-wasm';
import { readWords, scoreRowBytes, stateWords, surroundings, type Callee, type Emission } from './context.ts';

const { f32, f32x4, i32, i32x4, v128 } = instructions;

/** Locals of a function that walks over the pairs of a tile, row by row. */
export interface PairRows {
  readonly call: Local<'i32'>;
  readonly sequence: Local<'i32'>;
  readonly head: Local<'i32'>;
  /** i32 indices of the rows. */
  readonly rows: Local<'i32'>;
  /** Products of the block's queries with the query tables, table after table: [row][rows of the table]. */
  readonly tableProducts: Local<'i32'>;
  /** Most rows of a block: what the products of one table leave room for. */
  readonly blockQuery: number;
}

/** Everything that an expression over pairs reads, given one row and four neighbouring keys. */
export class PairPlace {
  readonly place: Place;
  readonly #f: FunctionBuilder;
  readonly #keyIndex: Local<'v128'>;
  readonly #keyPosition: Local<'v128'>;
  readonly #keyPositions: Local<'i32'>;
  readonly #last: Local<'v128'>;
  readonly #lanes: Local<'v128'>;
  readonly #key: Local<'i32'>;

  /** Reads what belongs to row `row` of the block, and computes what no key changes. */
  constructor(f: FunctionBuilder, emission: Emission, given: PairRows, row: Local<'i32'>, key: Local<'i32'>) {
    const { request, layouts, plan } = emission;
    const { call, sequence, head, rows, tableProducts } = given;
    const at = surroundings(emission, call);
    const words = readWords(f, sequence, layouts.sequence, ['batch', 'queryLength', 'keyLength', 'queryPositions', 'keyPositions', 'lastKey', 'randomKeys']);
    const queryIndex = f.let('queryIndex', i32.load(i32.add(rows, i32.shl(row, 2))));
    const queryPosition = f.let('queryPosition', i32.load(i32.add(words.queryPositions, i32.shl(queryIndex, 2))));
    const keyHead = f.let('keyHead', i32.div_u(head, i32.load(call, layouts.call.offset('group'))));
    const randomKeys = f.let('headKeys', i32.add(words.randomKeys, i32.mul(head, plan.streams.length * 8)));
    this.#f = f;
    this.#key = key;
    this.#keyIndex = f.local('keyIndex', 'v128');
    this.#keyPosition = f.local('keyPosition', 'v128');
    this.#keyPositions = words.keyPositions;
    this.#last = f.let('lastKeys', i32x4.splat(words.lastKey));
    this.#lanes = f.let('keyLanes', laneNumbers());
    this.place = new Place(f, at, {
      inputs: {
        batch: words.batch, head, keyHead, queryIndex, queryPosition, queryLength: words.queryLength, keyLength: words.keyLength,
        keyIndex: this.#keyIndex, keyPosition: this.#keyPosition,
      },
      fixed: ['batch', 'head', 'keyHead', 'queryIndex', 'queryPosition', 'queryLength', 'keyLength'],
      lanes: { input: 'keyIndex', first: key, last: words.lastKey },
      queryTables: rowProducts(f, at, plan.queryTables, tableProducts, row, given.blockQuery),
      randomKeys,
    });
    this.place.hoist(...pairExpressions(request.variant));
  }

  /** Moves to the four keys from the local `key` on. Lanes past the last key repeat it. */
  enterKeys(): void {
    const f = this.#f;
    f.set(this.#keyIndex, i32x4.min_s(i32x4.add(i32x4.splat(this.#key), this.#lanes), this.#last));
    f.set(this.#keyPosition, v128.load(i32.add(this.#keyPositions, i32.shl(this.#key, 2))));
  }
}

function rowProducts(f: FunctionBuilder, at: Surroundings, names: readonly string[], base: Local<'i32'>, row: Local<'i32'>, blockQuery: number): Readonly<Record<string, Local<'i32'>>> {
  const products: Record<string, Local<'i32'>> = {};
  let table = base;
  for (const name of names) {
    const bytes = f.let('productBytes', i32.shl(queryTableRows(at, name), 2));
    products[name] = f.let('products', i32.add(table, i32.mul(row, bytes)));
    table = f.let('nextTable', i32.add(table, i32.mul(bytes, blockQuery)));
  }
  return products;
}

/** Bounds of the keys that may be seen at all: lanes outside [low, high) are not allowed, whatever the mask says. */
export interface KeyBounds {
  readonly low: Local<'v128'>;
  readonly high: Local<'v128'>;
  /** 0 … 3 and −∞: constants made once. */
  readonly lanes: Local<'v128'>;
  readonly none: Local<'v128'>;
}

/** Written where the function begins, before its loops. */
export function boundKeys(f: FunctionBuilder, low: Local<'i32'>, high: Local<'i32'>): KeyBounds {
  return { low: f.let('lowKey', i32x4.splat(low)), high: f.let('highKey', i32x4.splat(high)), lanes: f.let('laneNumbers', laneNumbers()), none: f.let('none', minusInfinity()) };
}

/** The final score of four pairs; −∞ where not allowed, when the tile is mixed. */
export function finalScore(f: FunctionBuilder, { request }: Emission, pairs: PairPlace, key: Local<'i32'>, raw: Vector, bounds: KeyBounds | null): Local<'v128'> {
  const score = f.let('score', raw);
  for (const { expression } of request.variant.scoring.modifiers) f.set(score, pairs.place.evaluate(expression, { score }));
  if (bounds !== null) f.set(score, v128.bitselect(score, bounds.none, allowedLanes(f, { request }, pairs, key, bounds)));
  return score;
}

export function allowedLanes(f: FunctionBuilder, { request }: Pick<Emission, 'request'>, pairs: PairPlace, key: Local<'i32'>, bounds: KeyBounds): Local<'v128'> {
  const lanes = f.let('lanes', i32x4.add(i32x4.splat(key), bounds.lanes));
  const inside = v128.and(i32x4.ge_s(lanes, bounds.low), i32x4.lt_s(lanes, bounds.high));
  const allowed = f.let('allowed', inside);
  f.set(allowed, v128.and(allowed, pairs.place.evaluate(request.variant.masking.allowed)));
  return allowed;
}

/**
 * weigh(…): from a tile of raw scores to weights, row by row, with the running statistics brought up to date.
 * softmax: weights are e^(score − largest so far); `factors` say by how much earlier sums shrink.
 * Scores stay in place where they are wanted beside the weights (`target` elsewhere), with −∞ at keys that do not count.
 */
export function emitWeigh(emission: Emission): Callee {
  const { module, plan } = emission;
  const parameters = {
    call: 'i32', sequence: 'i32', head: 'i32', rows: 'i32', rowCount: 'i32', tableProducts: 'i32',
    first: 'i32', width: 'i32', low: 'i32', high: 'i32', mixed: 'i32', scores: 'i32', target: 'i32', states: 'i32', factors: 'i32',
  } as const;
  return module.function('weigh', { parameters, constantsOnce: true }, (f, locals) => {
    const { first, width, low, high, mixed, scores, target, states, factors, rowCount } = locals;
    const row = f.local('row', 'i32');
    const end = f.let('end', i32.add(first, width));
    const exponential = new Exponential(f, plan.machine);
    const walk = (bounds: KeyBounds | null): void => {
      const [score, weight, state, factor] = [f.let('scoreRow', scores), f.let('weightRow', target), f.let('state', states), f.let('factor', factors)];
      f.for(row, { to: rowCount, atLeastOnce: true }, () => {
        const key = f.local('key', 'i32');
        // Plain softmax of a tile that is seen whole reads nothing but its scores.
        const pairs = isPlain(emission, bounds) && emission.request.variant.normalization.reweigh.kind === 'input' ? null : new PairPlace(f, emission, { ...locals, blockQuery: plan.blockQuery }, row, key);
        weighRow(f, emission, { pairs, key, first, end, score, weight, state, factor, bounds, exponential });
        f.set(score, i32.add(score, scoreRowBytes(plan)));
        f.set(weight, i32.add(weight, scoreRowBytes(plan)));
        f.set(state, i32.add(state, stateWords.bytes));
        f.set(factor, i32.add(factor, 4));
      });
    };
    f.if(mixed, () => {
      f.comment('tiles where the mask decides');
      walk(boundKeys(f, low, high));
    }, () => {
      f.comment('tiles that are seen whole');
      walk(null);
    });
  });
}

function isPlain({ request }: Emission, bounds: KeyBounds | null): boolean {
  const { normalization, scoring } = request.variant;
  return bounds === null && scoring.modifiers.length === 0 && normalization.rule.kind === 'softmax' && normalization.rule.score.kind === 'input';
}

interface RowWalk {
  /** Null where no expression is evaluated. */
  readonly pairs: PairPlace | null;
  readonly key: Local<'i32'>;
  readonly first: Local<'i32'>;
  readonly end: Local<'i32'>;
  readonly score: Local<'i32'>;
  readonly weight: Local<'i32'>;
  readonly state: Local<'i32'>;
  readonly factor: Local<'i32'>;
  readonly bounds: KeyBounds | null;
  readonly exponential: Exponential;
}

function weighRow(f: FunctionBuilder, emission: Emission, walk: RowWalk): void {
  const { rule } = emission.request.variant.normalization;
  if (rule.kind === 'softmax') softmaxRow(f, emission, walk);
  else termRow(f, emission, walk);
}

/** Steps over the row's vectors, `unroll` at a time; `body` gets the byte offset of each beside the moving pointers. */
function overKeys(f: FunctionBuilder, { key, first, end, score, weight }: RowWalk, unroll: number, body: (from: Local<'i32'>, to: Local<'i32'>, part: number) => void): void {
  const [from, to] = [f.let('from', score), f.let('to', weight)];
  f.for(key, { from: first, to: end, step: 4 * unroll, atLeastOnce: true }, () => {
    for (let part = 0; part < unroll; part += 1) body(from, to, part);
    f.set(from, i32.add(from, 16 * unroll));
    f.set(to, i32.add(to, 16 * unroll));
  });
}

function softmaxRow(f: FunctionBuilder, emission: Emission, walk: RowWalk): void {
  const { normalization } = emission.request.variant;
  const { pairs, key, state, factor, bounds } = walk;
  const largest = f.let('largest', v128.load(state, stateWords.largest));
  const before = f.let('before', largest);
  if (pairs === null || isPlain(emission, bounds)) {
    const peaks = f.localArray('peak', 'v128', 4);
    for (const peak of peaks) f.set(peak, largest);
    overKeys(f, walk, 4, (from, _, part) => {
      const peak = peaks[part];
      if (peak !== undefined) f.set(peak, f32x4.pmax(v128.load(from, part * 16), peak));
    });
    for (const peak of peaks) f.set(largest, f32x4.pmax(largest, peak));
  } else {
    overKeys(f, walk, 1, (from) => {
      pairs.enterKeys();
      const final = finalScore(f, emission, pairs, key, v128.load(from), bounds);
      if (normalization.rule.score.kind !== 'input') {
        const kept = f.let('kept', f32x4.ne(final, minusInfinity()));
        watch(f, state, final, kept, false);
        f.set(final, v128.bitselect(pairs.place.evaluate(normalization.rule.score, { score: final }), minusInfinity(), kept));
      }
      f.do(v128.store(from, final));
      f.set(largest, f32x4.pmax(final, largest));
    });
  }
  largestLane(f, largest);
  f.do(v128.store(state, largest, stateWords.largest));
  // A row that has seen nothing keeps −∞; zero in its place lets −∞ − 0 give weights of exactly 0.
  const origin = f.let('origin', v128.bitselect(constantF32x4(0), largest, f32x4.eq(largest, minusInfinity())));
  const shrink = f.local('shrink', 'v128');
  const shifted = f.local('shifted', 'v128');
  walk.exponential.write(shrink, f32x4.sub(before, origin), shifted);
  f.do(f32.store(factor, f32x4.extract_lane(shrink, 0)));
  const linear = normalization.reweigh.kind === 'input';
  const unroll = linear ? 4 : 1;
  const [powers, shifts] = [f.localArray('power', 'v128', unroll), f.localArray('shift', 'v128', unroll)];
  const totals = f.localArray('total', 'v128', Math.min(unroll, 2));
  totals.forEach((total, index) => f.set(total, index === 0 ? f32x4.mul(v128.load(state, stateWords.sum), shrink) : constantF32x4(0)));
  overKeys(f, walk, unroll, (from, to, part) => {
    const [power, shift, total] = [powers[part], shifts[part], totals[part % totals.length]];
    if (power === undefined || shift === undefined || total === undefined) return;
    walk.exponential.write(power, f32x4.sub(v128.load(from, part * 16), origin), shift);
    f.set(total, f32x4.add(total, power));
    if (!linear && pairs !== null) {
      pairs.enterKeys();
      // The factor of a key that does not count may be anything, so its weight is cleared.
      f.set(power, v128.and(pairs.place.evaluate(normalization.reweigh, { weight: power }), f32x4.ne(v128.load(from), minusInfinity())));
    }
    f.do(v128.store(to, power, part * 16));
  });
  const [sum, ...others] = totals;
  if (sum === undefined) return;
  for (const other of others) f.set(sum, f32x4.add(sum, other));
  f.do(v128.store(state, sum, stateWords.sum));
}

/** Adds 0 for finite scores and NaN for others, and one for each key that counts. */
function watch(f: FunctionBuilder, state: Local<'i32'>, score: Local<'v128'>, kept: Local<'v128'>, counted: boolean): void {
  f.do(v128.store(state, f32x4.add(v128.load(state, stateWords.poison), f32x4.mul(v128.and(score, kept), constantF32x4(0))), stateWords.poison));
  if (counted) f.do(v128.store(state, i32x4.sub(v128.load(state, stateWords.count), kept), stateWords.count));
}

/** Weights that each follow from their own score; rowSum adds them up besides. */
function termRow(f: FunctionBuilder, emission: Emission, walk: RowWalk): void {
  const { normalization } = emission.request.variant;
  const { pairs, key, state, bounds } = walk;
  if (pairs === null) throw new RangeError('terms are evaluated at their place');
  overKeys(f, walk, 1, (from, to) => {
    pairs.enterKeys();
    const final = finalScore(f, emission, pairs, key, v128.load(from), bounds);
    const kept = f.let('kept', f32x4.ne(final, minusInfinity()));
    watch(f, state, final, kept, true);
    f.do(v128.store(from, final));
    const term = f.let('term', v128.and(pairs.place.evaluate(normalization.rule.score, { score: final }), kept));
    if (normalization.rule.kind === 'rowSum') f.do(v128.store(state, f32x4.add(v128.load(state, stateWords.sum), term), stateWords.sum));
    if (normalization.reweigh.kind !== 'input') f.set(term, v128.and(pairs.place.evaluate(normalization.reweigh, { weight: term }), kept));
    f.do(v128.store(to, term));
  });
}

