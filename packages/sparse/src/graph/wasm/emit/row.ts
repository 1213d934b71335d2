import { call as callTo, instructions, type FloatStorage, type FunctionBuilder, type Local, type Value } from '@heed/runtime-wasm';
import { isObserving, readWords, rowAddress, scratchOf, stripNames, stripPadding, word, type Callee, type Emission } from './context.ts';
import { sinkOf } from './weigh.ts';

const { i32, v128 } = instructions;

/** Rows are gathered where they lie, or as float32 where they were prepared. */
export interface Gathers {
  readonly inPlace: Callee;
  readonly prepared: Callee;
}

/** One function for rows as they are stored, one for float32. */
export function gathers(storage: FloatStorage, emit: (storage: FloatStorage) => Callee): Gathers {
  const inPlace = emit(storage);
  return { inPlace, prepared: storage === 'f32' ? inPlace : emit('f32') };
}

/** The functions that one row goes through. */
export interface Parts {
  readonly select: Callee;
  readonly loadQuery: Callee;
  readonly scores: Gathers;
  readonly settle: Callee | null;
  readonly compact: Callee;
  readonly terms: Callee | null;
  readonly normalize: Callee;
  readonly reweigh: Callee | null;
  readonly values: Gathers;
  readonly statistics: Callee | null;
  readonly finish: Callee;
}

/** Addresses in the thread's scratch. */
export type Places = Readonly<Record<Exclude<keyof ReturnType<typeof scratchOf>, 'end'> | 'products' | (typeof stripNames)[number], Local<'i32'>>>;

/** What is sized at run time stands behind the rest. */
export function scratchPlaces(f: FunctionBuilder, { plan, layouts }: Emission, call: Local<'i32'>, scratch: Local<'i32'>): Places {
  const { end, ...sized } = scratchOf(plan);
  const { columns, tableRows } = readWords(f, call, layouts.call, ['columns', 'tableRows']);
  const wholeVectors = (count: Local<'i32'>): Value<'i32'> => i32.and(i32.add(count, 3), -4);
  const products = f.let('products', i32.add(scratch, end));
  const strips = f.let('strips', i32.add(products, i32.shl(wholeVectors(tableRows), 2)));
  // As `stripBytes` has it.
  const length = f.let('stripLength', i32.shl(i32.add(wholeVectors(columns), stripPadding), 2));
  return Object.fromEntries([
    ...Object.entries(sized).map(([name, offset]) => [name, f.let(name, i32.add(scratch, offset))]),
    ['products', products],
    ...stripNames.map((name, index) => [name, f.let(`${name}Strip`, i32.add(strips, i32.mul(length, index)))]),
  ]) as Places;
}

export interface RowAtHand {
  readonly call: Local<'i32'>;
  readonly sequence: Local<'i32'>;
  readonly keyHead: Local<'i32'>;
  readonly head: Local<'i32'>;
  readonly row: Local<'i32'>;
  /** Its edges in the list: from … to − 1. */
  readonly from: Local<'i32'>;
  readonly to: Local<'i32'>;
  readonly places: Places;
}

/** The edges of a row; rows of padding have none. */
export function enterRow(f: FunctionBuilder, { layouts }: Emission, call: Local<'i32'>, sequence: Local<'i32'>, row: Local<'i32'>): Pick<RowAtHand, 'from' | 'to'> {
  const place = f.let('startsAt', i32.add(word(call, layouts.call.offset('starts')), i32.shl(row, 2)));
  const from = f.let('from', i32.load(place));
  const to = f.let('to', from);
  f.if(i32.lt_s(row, word(sequence, layouts.sequence.offset('queryLength'))), () => {
    f.set(to, i32.load(place, 4));
  });
  return { from, to };
}

/** Writes `body` for the rows of keys or values of the head at hand, once for each way in which they may lie. */
export function gatherRows(f: FunctionBuilder, { layouts }: Emission, side: 'keys' | 'values', gathers: Gathers, { call, sequence, keyHead }: Pick<RowAtHand, 'call' | 'sequence' | 'keyHead'>, body: (callee: Callee, rows: Local<'i32'>, rowBytes: Local<'i32'>) => void): void {
  const of = (part: string): Value<'i32'> => word(sequence, layouts.sequence.offset(`${side}${part}`));
  const rows = f.let(`${side}Rows`, i32.add(of(''), i32.mul(keyHead, of('.head'))));
  const rowBytes = f.let(`${side}RowBytes`, of('.row'));
  if (gathers.inPlace === gathers.prepared) body(gathers.inPlace, rows, rowBytes);
  else f.if(word(call, layouts.call.offset(`${side}InPlace`)), () => {
    body(gathers.inPlace, rows, rowBytes);
  }, () => {
    body(gathers.prepared, rows, rowBytes);
  });
}

/** From a row's edges to its weights. `body` gets them, and how many there are, where there is one. Returns how many edges count. */
export function weighRow(f: FunctionBuilder, emission: Emission, parts: Parts, at: RowAtHand, body: (weights: Local<'i32'>, count: Local<'i32'>) => void): Local<'i32'> {
  const { plan, layouts } = emission;
  const { call, sequence, head, row, from, to, places } = at;
  const { keys, edges, scores, products, work, state } = places;
  const pair = [call, sequence, head, row, keys, edges, products] as const;
  const sink = sinkOf(f, emission, sequence, head);
  const count = f.let('count', callTo(parts.select, ...pair, from, to) as Value<'i32'>);
  f.if(count, () => {
    const query = f.let('query', callTo(parts.loadQuery, call, sequence, head, row, work, products) as Value<'i32'>);
    const scale = f.let('scale', v128.load32_splat(call, layouts.call.offset('scale')));
    const isNone = f.local('isNone', 'i32');
    gatherRows(f, emission, 'keys', parts.scores, at, (callee, rows, rowBytes) => {
      f.set(isNone, (plan.scoring === 'product' ? callTo(callee, query, rows, rowBytes, keys, count, scores, scale) : callTo(callee, ...pair, query, rows, rowBytes, count, scores, scale)) as Value<'i32'>);
    });
    if (parts.settle !== null) f.set(isNone, callTo(parts.settle, ...pair, scores, count) as Value<'i32'>);
    f.if(isNone, () => {
      f.set(count, callTo(parts.compact, keys, edges, scores, count) as Value<'i32'>);
    });
    f.if(count, () => {
      const weights = parts.terms === null ? scores : places.weights;
      if (parts.terms !== null) f.do(callTo(parts.terms, ...pair, scores, weights, count, state));
      f.do(callTo(parts.normalize, call, weights, count, state, sink));
      body(weights, count);
    });
  });
  if (parts.statistics !== null && !isObserving(plan)) f.do(callTo(parts.statistics, call, sequence, head, row, count, state, sink));
  return count;
}

/** Σ weight · gathered value of a row, then the output: straight to its place where that may be. */
export function gatherValues(f: FunctionBuilder, emission: Emission, parts: Parts, at: Omit<RowAtHand, 'from' | 'to'>, kept: { readonly weights: Local<'i32'>; readonly keys: Local<'i32'>; readonly count: Local<'i32'> }): void {
  const { plan, layouts } = emission;
  const { call, sequence, head, row, places } = at;
  const gather = (target: Local<'i32'>): void => {
    gatherRows(f, emission, 'values', parts.values, at, (callee, rows, rowBytes) => {
      f.do(callTo(callee, kept.weights, rows, rowBytes, kept.keys, kept.count, target));
    });
  };
  const throughScratch = (): void => {
    f.if(kept.count, () => {
      gather(places.sums);
    });
    f.do(callTo(parts.finish, call, sequence, head, row, kept.count, places.sums));
  };
  if (!plan.writesInPlace) throughScratch();
  else f.if(i32.and(i32.ne(kept.count, 0), word(call, layouts.call.offset('outputInPlace'))), () => {
    gather(rowAddress(f, emission, 'output', call, sequence, head, row));
  }, throughScratch);
}
