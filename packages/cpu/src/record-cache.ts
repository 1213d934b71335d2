import { walk } from '@heed/core';
import type { AttentionRequest, Expression } from '@heed/core';
import type { BoundCall, BoundSequence } from '@heed/core/compute';
import type { WasmRuntime } from '@heed/runtime-wasm';
import { CallMemory } from '@heed/runtime-wasm';
import type { Records } from './call.ts';

/** Shapes whose records a kernel keeps, the latest used ones: a few lengths of prefill, and the steps of a decode. */
const kept = 8;
/** Longer records belong to calls beside which writing them is nothing. */
const largestBytes = 2 ** 18;

interface Entry {
  /** Everything that the records depend on besides the request. */
  readonly numbers: readonly number[];
  readonly records: Records;
  readonly memory: CallMemory;
}

/** The records of the latest calls of one kernel, for calls of the same shapes: what a call costs before its first kernel runs is mostly writing them. */
export class RecordCache {
  readonly #runtime: WasmRuntime;
  readonly #request: AttentionRequest;
  /** False where the elements of tables decide; found at the first call. */
  #usable: boolean | undefined;
  /** Latest used first. */
  readonly #entries: Entry[] = [];

  constructor(runtime: WasmRuntime, request: AttentionRequest) {
    this.#runtime = runtime;
    this.#request = request;
  }

  /**
   * The records of a call: those of an earlier one of the same shapes, or new ones.
   * @param inPlace which way of computing is asked for; calls of one shape may differ in it
   * @param write writes them to the memory given
   * @param own the call's own memory, where records that are not kept are written
   */
  records(call: BoundCall, inPlace: boolean, own: CallMemory, write: (memory: CallMemory) => Records): Records {
    this.#usable ??= !tablesDecide(this.#request);
    const numbers = this.#usable ? numbersOf(call, inPlace) : null;
    if (numbers === null) return write(own);
    const entries = this.#entries;
    const place = entries.findIndex((entry) => sameNumbers(entry.numbers, numbers));
    const known = entries[place];
    if (known !== undefined) {
      if (place > 0) entries.unshift(...entries.splice(place, 1));
      return known.records;
    }
    const memory = new CallMemory(this.#runtime);
    try {
      const records = write(memory);
      if (memory.bytes > largestBytes) {
        own.adopt(memory);
        return records;
      }
      entries.unshift({ numbers, records, memory });
      for (const old of entries.splice(kept)) old.memory.release();
      return records;
    } catch (error) {
      memory.release();
      throw error;
    }
  }

  /** Gives the memory back, once what was submitted is over. */
  clear(): void {
    for (const { memory } of this.#entries.splice(0)) memory.release();
  }
}

/** Null where a call brings more than numbers: explicit positions, block lists. */
function numbersOf(call: BoundCall, inPlace: boolean): readonly number[] | null {
  const { heads, keyHeads, headOffset, queryRows, keyRows, sequences, uniforms, tables } = call;
  if (call.blocks !== null) return null;
  const numbers = [Number(inPlace), Number(call.keysTransformed), heads, keyHeads, headOffset, queryRows, keyRows];
  for (const name in uniforms) numbers.push(uniforms[name] ?? Number.NaN);
  // Query tables need room for their products.
  for (const name in tables) numbers.push(tables[name]?.sizes.at(-2) ?? 0);
  for (const sequence of sequences) if (!pushSequence(numbers, sequence)) return null;
  return numbers;
}

function pushSequence(numbers: number[], sequence: BoundSequence): boolean {
  const { id, batch, tensorBatch, queryStart, queryRows, keyStart, keyRows, queryLength, keyLength, totalKeyLength, queryOffset, queryPositions, keyOffset, keyPositions } = sequence;
  if (queryPositions !== null || keyPositions !== null) return false;
  numbers.push(id, batch, tensorBatch, queryStart, queryRows, keyStart, keyRows, queryLength, keyLength, totalKeyLength, queryOffset, keyOffset);
  return true;
}

function sameNumbers(a: readonly number[], b: readonly number[]): boolean {
  if (a.length !== b.length) return false;
  // Object.is, so that a uniform of NaN is itself and −0 is not 0.
  for (let index = 0; index < a.length; index += 1) if (!Object.is(a[index], b[index])) return false;
  return true;
}

/** Whether something that records hold depends on the elements of tables: tiles, sinks, cosines and sines, the scale. */
function tablesDecide({ variant: { scoring, masking, normalization } }: AttentionRequest): boolean {
  const { rule } = normalization;
  const expressions: Expression[] = [masking.allowed, scoring.scale];
  if (rule.kind === 'softmax' && rule.sink !== null) expressions.push(rule.sink);
  if (rule.kind === 'rowSum') expressions.push(rule.epsilon);
  const transforms = [...scoring.queryTransforms, ...scoring.keyTransforms];
  return transforms.some(({ tables }) => Object.keys(tables).length > 0) || expressions.some((expression) => [...walk(expression)].some(({ kind }) => kind === 'table'));
}
