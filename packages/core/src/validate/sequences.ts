import type { AttentionInputs, Integers, PositionOffset } from '../backend.ts';
import type { BoundSequence, KeyInputs } from '../bind.ts';
import { AttentionError } from '../errors.ts';
import type { HostTensor, Tensor } from '../tensor.ts';
import { isHostTensor } from '../tensor.ts';
import { checkIntegers, largestInteger, smallestInteger } from './integers.ts';
import { show } from '../show.ts';
import { checkTensor } from './tensors.ts';

/** Sizes that the tensors of a call agree on. */
export interface CallSizes {
  readonly batch: number;
  /** Rows of the query tensor for each entry of its axis 0. */
  readonly queryRows: number;
  /** Keys of each entry of the batch: rows of the key tensor, or all rows of its pages. */
  readonly keyRows: number;
}

/** Where the rows of each sequence lie in one of the tensors. */
interface Rows {
  readonly starts: Integers | null;
  readonly rows: number;
}

/**
 * Lengths, positions and identities of every sequence, with defaults resolved.
 *
 * @throws AttentionError `invalid-lengths`, `invalid-positions`, `ambiguous-offset`
 */
export function bindSequences(inputs: AttentionInputs, sizes: CallSizes, positionDependent: boolean): readonly BoundSequence[] {
  const { packed } = inputs;
  const query: Rows = { starts: packed === undefined ? null : checkPacked('packed.query', packed, 'query', sizes.queryRows), rows: sizes.queryRows };
  const key: Rows = { starts: packed === undefined ? null : checkPacked('packed.key', packed, 'key', sizes.keyRows), rows: sizes.keyRows };
  const count = query.starts === null ? sizes.batch : query.starts.length - 1;
  if (query.starts !== null && key.starts !== null) {
    if (sizes.batch !== 1) throw new AttentionError('invalid-shape', `Packed sequences came with batch ${sizes.batch}.`, 'Expected batch 1: all sequences stand one after another on the rows axis.');
    if (key.starts.length - 1 !== count) throw new AttentionError('invalid-lengths', `packed.query holds ${count} sequences, packed.key ${key.starts.length - 1}.`, 'Expected the same number.');
  }
  const queryLengths = optional('queryLengths', inputs.queryLengths, count, 0, query.rows, 'invalid-lengths');
  const keyLengths = optional('keyLengths', inputs.keyLengths, count, 0, key.rows, 'invalid-lengths');
  const totals = optional('totalKeyLengths', inputs.totalKeyLengths, count, 0, largestInteger, 'invalid-lengths');
  const ids = optional('sequenceIds', inputs.sequenceIds, count, smallestInteger, largestInteger, 'invalid-argument');
  const queryPositions = positionsOf('queryPositions', inputs.queryPositions, query, count);
  const keyPositions = positionsOf('keyPositions', inputs.keyPositions, key, count);
  const queryOffset = checkOffset('queryOffset', inputs.queryOffset, count, true);
  const keyOffset = checkOffset('keyOffset', inputs.keyOffset, count, false);

  const sequences: BoundSequence[] = [];
  for (let batch = 0; batch < count; batch++) {
    const queryStart = query.starts?.[batch] ?? 0;
    const queryRows = query.starts === null ? query.rows : (query.starts[batch + 1] ?? 0) - queryStart;
    const keyStart = key.starts?.[batch] ?? 0;
    const keyRows = key.starts === null ? key.rows : (key.starts[batch + 1] ?? 0) - keyStart;
    const queryLength = queryLengths?.[batch] ?? queryRows;
    const keyLength = keyLengths?.[batch] ?? keyRows;
    const totalKeyLength = totals?.[batch] ?? keyLength;
    if (queryLength > queryRows) throw longer('queryLengths', batch, queryLength, queryRows);
    if (keyLength > keyRows) throw longer('keyLengths', batch, keyLength, keyRows);
    if (totalKeyLength < keyLength) {
      throw new AttentionError('invalid-lengths', `totalKeyLengths[${batch}] is ${totalKeyLength}, and ${keyLength} keys are given.`, 'A whole sequence is at least as long as its shard.');
    }
    if (inputs.queryOffset === undefined && queryPositions === null && keyPositions === null && positionDependent) checkUnambiguous(batch, queryLength, totalKeyLength);
    sequences.push({
      id: ids?.[batch] ?? batch,
      batch,
      tensorBatch: query.starts === null ? batch : 0,
      queryStart,
      queryRows,
      keyStart,
      keyRows,
      queryLength,
      keyLength,
      totalKeyLength,
      queryOffset: resolveOffset('queryOffset', queryOffset, batch, queryLength, totalKeyLength),
      queryPositions: rowsOf(queryPositions, batch, queryStart, queryRows),
      keyOffset: resolveOffset('keyOffset', keyOffset, batch, keyLength, totalKeyLength),
      keyPositions: rowsOf(keyPositions, batch, keyStart, keyRows),
    });
  }
  return sequences;
}

/** The sequences of keys alone: what `transformKeys` is given. */
export function bindKeySequences({ key, packed, keyOffset, keyPositions }: KeyInputs, sizes: CallSizes): readonly BoundSequence[] {
  const starts = packed === undefined ? null : checkPacked('packed.key', packed, 'key', sizes.keyRows);
  const inputs = {
    query: key,
    key,
    value: key,
    ...(starts === null ? {} : { packed: { query: Array.from(starts, () => 0), key: starts } }),
    ...(keyOffset === undefined ? {} : { keyOffset }),
    ...(keyPositions === undefined ? {} : { keyPositions }),
  };
  return bindSequences(inputs, sizes, false);
}

function optional(what: string, given: unknown, count: number, low: number, high: number, code: 'invalid-lengths' | 'invalid-argument'): Integers | null {
  return given === undefined ? null : checkIntegers(what, given, count, low, high, code);
}

function longer(what: string, batch: number, length: number, rows: number): AttentionError {
  return new AttentionError('invalid-lengths', `${what}[${batch}] is ${length}; the sequence has ${rows} rows.`, 'Expected at most as many.');
}

/** Cumulative offsets: 0, ascending, the number of rows last. */
function checkPacked(what: string, packed: unknown, side: 'query' | 'key', rows: number): Integers {
  const given: unknown = typeof packed === 'object' && packed !== null ? Reflect.get(packed, side) : undefined;
  const starts = checkIntegers(what, given, null, 0, rows, 'invalid-lengths');
  if (starts.length < 1 || starts[0] !== 0 || starts[starts.length - 1] !== rows) {
    throw new AttentionError('invalid-lengths', `${what} is ${show([...starts])}.`, `Expected cumulative offsets from 0 to the number of rows, ${rows}.`);
  }
  for (let index = 1; index < starts.length; index++) {
    if ((starts[index] ?? 0) < (starts[index - 1] ?? 0)) throw new AttentionError('invalid-lengths', `${what}[${index}] is ${show(starts[index])}, less than the one before.`, 'Expected ascending offsets.');
  }
  return starts;
}

function checkUnambiguous(batch: number, queryLength: number, keyLength: number): void {
  if (queryLength === keyLength || queryLength === 0 || keyLength === 0) return;
  throw new AttentionError(
    'ambiguous-offset',
    `Sequence ${batch} has ${queryLength} queries and ${keyLength} keys, the variant depends on positions, and no queryOffset is given.`,
    `Pass queryOffset: 'start' (query 0 stands at key 0: 0) or 'end' (the last query stands at the last key: ${keyLength - queryLength}), or queryPositions.`,
  );
}

type Offset = PositionOffset | 'start' | 'end';

function checkOffset(what: string, given: unknown, count: number, words: boolean): Offset {
  if (given === undefined) return 0;
  if (words && (given === 'start' || given === 'end')) return given;
  if (typeof given === 'number') {
    if (!Number.isInteger(given) || given < smallestInteger || given > largestInteger) throw new AttentionError('invalid-positions', `${what} is ${given}.`, 'Expected a 32-bit integer.');
    return given;
  }
  if (typeof given !== 'object') throw new AttentionError('invalid-positions', `${what} is ${show(given)}.`, words ? "Expected an integer, one for each sequence, 'start' or 'end'." : 'Expected an integer, or one for each sequence.');
  return checkIntegers(what, given, count, smallestInteger, largestInteger, 'invalid-positions');
}

function resolveOffset(what: string, offset: Offset, batch: number, length: number, keyLength: number): number {
  const resolved = offset === 'start' ? 0 : offset === 'end' ? keyLength - length : typeof offset === 'number' ? offset : (offset[batch] ?? 0);
  if (resolved + length - 1 > largestInteger) {
    throw new AttentionError('invalid-positions', `${what} ${resolved} puts the last of ${length} rows past ${largestInteger}.`, 'Positions are 32-bit integers.');
  }
  return resolved;
}

interface Positions {
  readonly tensor: HostTensor;
  readonly packed: boolean;
}

/** Positions are decided on the host, so the host must see them. */
function positionsOf(what: string, given: Tensor | undefined, rows: Rows, count: number): Positions | null {
  if (given === undefined) return null;
  const tensor = checkTensor(what, given, undefined);
  if (tensor.dtype !== 'i32') throw new AttentionError('invalid-dtype', `${what} is ${tensor.dtype}.`, 'Expected i32.');
  const [first, length] = tensor.shape;
  const packed = rows.starts !== null;
  if (tensor.shape.length !== 2 || length !== rows.rows || (first !== 1 && (packed || first !== count))) {
    throw new AttentionError('invalid-positions', `${what} has shape [${tensor.shape.join(', ')}].`, `Expected [${packed || count === 1 ? '1' : `${count} or 1`}, ${rows.rows}].`);
  }
  if (!isHostTensor(tensor)) throw new AttentionError('invalid-positions', `${what} lives on a device.`, 'Pass a tensor that the host can see: masks are classified by positions before the call is enqueued.');
  return { tensor, packed };
}

/** The positions of one sequence, copied: a view may move. */
function rowsOf(positions: Positions | null, batch: number, start: number, rows: number): Int32Array | null {
  if (positions === null) return null;
  const { tensor, packed } = positions;
  const [batchStride = 0, rowStride = 1] = tensor.strides;
  const view = tensor.view();
  const first = (packed || tensor.shape[0] === 1 ? 0 : batch * batchStride) + start * rowStride;
  const result = new Int32Array(rows);
  for (let row = 0; row < rows; row++) result[row] = view[first + row * rowStride] ?? 0;
  return result;
}
