import type { Backend, FastWeightInputs, FastWeightRequest, FastWeightState, HostTensor, Tensor } from '@heed/core';
import { AttentionError, elementCount, isHostTensor, tensor, toFloat64 } from '@heed/core';
import { widthOf } from '@heed/core/compute';

/**
 * What a span of tokens does to any state it is given: G ↦ transition · G + addition, for each value head of each sequence; z likewise. Float64, on the host.
 * Maps of neighbouring spans compose, so a sequence can be cut anywhere, its pieces computed apart, and joined in any grouping.
 */
export interface SegmentMap {
  /** Sequences times value heads. */
  readonly lanes: number;
  readonly width: number;
  readonly valueDim: number;
  /** [lanes, width, width] */
  readonly transition: Float64Array;
  /** [lanes, width, valueDim], and [lanes, width] where the variant has a row sum. */
  readonly addition: Float64Array;
  readonly normalizer: Float64Array | null;
  /** Shapes of the state's tensors. */
  readonly shapes: Readonly<Record<string, readonly number[]>>;
}

/**
 * The map of a span, from two calls: what it makes of a state of zeros is the addition; what it makes of the unit matrix with values of zero is the transition, since every recurrent rule is linear in
 * its state and adds what the values give.
 *
 * @param inputs of the span; a state among them is left out
 * @throws AttentionError `unsupported` for a rule that is not linear in its state; those of `prepare` and `run`
 */
export async function segmentMap(backend: Backend, request: FastWeightRequest, inputs: FastWeightInputs): Promise<SegmentMap> {
  const { rule } = request.variant;
  if (rule.kind !== 'recurrent') throw new AttentionError('unsupported', `The rule '${rule.name}' is not linear in its state.`, 'Pass states from one segment to the next.');
  const width = widthOf(request);
  const { state: _state, ...span } = inputs;
  const { gradients: _gradients, ...forward } = request;
  const addition = await finalState(backend, forward, span);
  const [sequences = 0, valueHeads = 0] = addition['memory']?.shape ?? [];
  const lanes = sequences * valueHeads;
  const [batch = 0, heads = 0, length = 0] = inputs.value.shape;
  const unit = new Float32Array(lanes * width * width);
  for (let row = 0; row < lanes * width; row += 1) unit[row * width + (row % width)] = 1;
  const zeros = tensor(new Float32Array(batch * heads * length * width), [batch, heads, length, width]);
  const value = inputs.value.runtime === null ? zeros : inputs.value.runtime.upload(zeros);
  const normalizer = addition['normalizer'];
  const state = { memory: tensor(unit, [sequences, valueHeads, width, width]), ...(normalizer === undefined ? {} : { normalizer: tensor(new Float32Array(lanes * width), [sequences, valueHeads, width]) }) };
  try {
    const transition = await finalState(backend, { ...forward, valueDim: width, dtypes: { ...forward.dtypes, value: 'f32' } }, { ...span, value, state });
    return {
      lanes,
      width,
      valueDim: request.valueDim,
      transition: numbersOf('memory', transition),
      addition: numbersOf('memory', addition),
      normalizer: normalizer === undefined ? null : numbersOf('normalizer', addition),
      shapes: Object.fromEntries(Object.entries(addition).map(([name, one]) => [name, one.shape])),
    };
  } finally {
    value.runtime?.release(value);
  }
}

/** The map of no tokens. */
export function identityMap(map: SegmentMap): SegmentMap {
  const transition = new Float64Array(map.transition.length);
  for (let row = 0; row < map.lanes * map.width; row += 1) transition[row * map.width + (row % map.width)] = 1;
  return { ...map, transition, addition: new Float64Array(map.addition.length), normalizer: map.normalizer === null ? null : new Float64Array(map.normalizer.length) };
}

/**
 * First one span, then the other: (M₂, N₂) ∘ (M₁, N₁) = (M₂M₁, M₂N₁ + N₂). Associative up to rounding.
 * @throws AttentionError `invalid-shape` for maps of other sizes
 */
export function composeMaps(first: SegmentMap, second: SegmentMap): SegmentMap {
  if (first.lanes !== second.lanes || first.width !== second.width || first.valueDim !== second.valueDim || (first.normalizer === null) !== (second.normalizer === null)) {
    throw new AttentionError('invalid-shape', `Got maps of ${first.lanes} heads of ${first.width} × ${first.valueDim} and of ${second.lanes} of ${second.width} × ${second.valueDim}.`, 'Compose maps of one request and one batch.');
  }
  const { lanes, width, valueDim } = first;
  return {
    ...second,
    transition: products(second.transition, first.transition, lanes, width, width, null),
    addition: products(second.transition, first.addition, lanes, width, valueDim, second.addition),
    normalizer: first.normalizer === null ? null : products(second.transition, first.normalizer, lanes, width, 1, second.normalizer),
  };
}

/**
 * The state behind a span, from the one before it.
 * @param state on the host, as a call returned it; undefined: zeros
 * @throws AttentionError `invalid-state` for a state of other shapes
 */
export function applyMap(map: SegmentMap, state: FastWeightState | undefined): FastWeightState<HostTensor> {
  const { lanes, width, valueDim, transition } = map;
  const given = (name: string): Float64Array => {
    const one = state?.[name];
    const shape = map.shapes[name] ?? [];
    if (one === undefined) return new Float64Array(elementCount(shape));
    if (one.shape.join() !== shape.join()) throw new AttentionError('invalid-state', `State '${name}' has shape [${one.shape.join(', ')}].`, `Expected [${shape.join(', ')}].`);
    return numbersOf(name, { [name]: one });
  };
  const made = { memory: products(transition, given('memory'), lanes, width, valueDim, map.addition), ...(map.normalizer === null ? {} : { normalizer: products(transition, given('normalizer'), lanes, width, 1, map.normalizer) }) };
  return Object.fromEntries(Object.entries(made).map(([name, values]) => [name, tensor(Float32Array.from(values), map.shapes[name] ?? [])]));
}

async function finalState(backend: Backend, request: FastWeightRequest, inputs: FastWeightInputs): Promise<FastWeightState<HostTensor>> {
  const kernel = await backend.prepare(request);
  try {
    const { output, state } = await kernel.run(inputs);
    const read = await Promise.all(Object.entries(state).map(async ([name, one]) => [name, await onHost(one)] as const));
    for (const one of [output, ...Object.values(state)]) one.runtime?.release(one);
    return Object.fromEntries(read);
  } finally {
    await kernel.dispose();
  }
}

async function onHost(one: Tensor): Promise<HostTensor> {
  if (one.runtime !== null) return one.runtime.read(one);
  if (!isHostTensor(one)) throw new AttentionError('foreign-tensor', 'A tensor of the state is nowhere.', 'Pass tensors of the host or of the runtime.');
  return one;
}

function numbersOf(name: string, state: FastWeightState): Float64Array {
  const one = state[name];
  if (one?.runtime !== null || !isHostTensor(one)) throw new AttentionError('foreign-tensor', `State '${name}' is not on the host.`, 'Read it to the host first.');
  return toFloat64(one);
}

/** left [lanes, width, width] · right [lanes, width, columns] + added. */
function products(left: Float64Array, right: Float64Array, lanes: number, width: number, columns: number, added: Float64Array | null): Float64Array {
  const result = added === null ? new Float64Array(lanes * width * columns) : added.slice();
  for (let row = 0; row < lanes * width; row += 1) {
    const lane = Math.floor(row / width);
    for (let inner = 0; inner < width; inner += 1) {
      const factor = left[row * width + inner] ?? 0;
      const from = (lane * width + inner) * columns;
      for (let column = 0; column < columns; column += 1) result[row * columns + column] = (result[row * columns + column] ?? 0) + factor * (right[from + column] ?? 0);
    }
  }
  return result;
}
