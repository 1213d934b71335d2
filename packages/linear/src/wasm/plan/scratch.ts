import { roundUp, type WasmPlan } from './machine-plan.ts';

/** Where a thread keeps what while it works on a chunk, in bytes from its scratch. C = plan.rows tokens, W and V the strides of the plan. */
export interface Scratch {
  /** Two buffers of row transforms. */
  readonly work: number;
  /** Rows [C, W]. */
  readonly query: number;
  readonly key: number;
  /** What the state is asked for, where that is not the key. */
  readonly recall: number;
  /** What is removed along, where that is not what is written. */
  readonly remove: number;
  /** Turned, [W, C]: what writes into the state. */
  readonly keyTurned: number;
  readonly removeTurned: number;
  /** Query and recall rows of one sub-chunk, decayed from its start, [subChunk, W]. */
  readonly subQuery: number;
  readonly subRecall: number;
  /** [C, V]: values, which become what is written at each key; and what is written along `remove`. */
  readonly value: number;
  readonly removed: number;
  /** Pairs [C, C]: query · key, query · remove, recall · key, recall · remove. */
  readonly queryKey: number;
  readonly queryRemove: number;
  readonly recallKey: number;
  readonly recallRemove: number;
  readonly output: number;
  /** G with z behind its last column, [W, V]. */
  readonly memory: number;
  /** logDecay, [C], or [C, W] by channel; the decays themselves for the steps that need them. */
  readonly decay: number;
  /** Product of the decays up to each token, and before it; [C], or none by channel. */
  readonly since: number;
  readonly before: number;
  /** Product of the decays behind each token, [C]. */
  readonly until: number;
  /** Product of the decays of the whole chunk for each row of G, [W]. */
  readonly total: number;
  /** Decays between the token at hand and each before it, [C]; and one step before. */
  readonly between: number;
  readonly betweenBefore: number;
  /** writeStrength, [C]. */
  readonly strength: number;
  /** Vectors of one token of the recurrent form: see `token.ts`, eight of [W]. */
  readonly token: number;
  readonly bytes: number;
}

export function scratchOf(plan: WasmPlan): Scratch {
  const { rows, widthStride, valueStride, recall, decay, subChunk } = plan;
  let place = 0;
  const take = (floats: number, isUsed = true): number => {
    const start = place;
    if (isUsed) place += roundUp(floats * 4, 64);
    return start;
  };
  const own = recall !== null && !recall.isDelta;
  const byChannel = decay === 'channel';
  const vectors = rows * widthStride;
  const pairs = rows * rows;
  const values = rows * valueStride;
  const key = { place: -1 };
  return {
    work: take(2 * plan.rowFloats),
    query: take(vectors),
    key: (key.place = take(vectors)),
    recall: recall?.by === 'removalKey' ? take(vectors) : key.place,
    remove: own ? take(vectors) : key.place,
    keyTurned: take(vectors),
    removeTurned: take(vectors, own),
    subQuery: take(subChunk * widthStride, byChannel),
    subRecall: take(subChunk * widthStride, byChannel && recall !== null),
    value: take(values),
    removed: take(values, own),
    queryKey: take(pairs),
    queryRemove: take(pairs, own),
    recallKey: take(pairs, recall !== null),
    recallRemove: take(pairs, own),
    output: take(values),
    memory: take(widthStride * valueStride),
    decay: take(byChannel ? vectors : rows, decay !== null),
    since: take(rows),
    before: take(rows),
    until: take(rows),
    total: take(widthStride),
    between: take(rows),
    betweenBefore: take(rows),
    strength: take(rows),
    token: take(8 * widthStride),
    bytes: roundUp(place, 64),
  };
}
