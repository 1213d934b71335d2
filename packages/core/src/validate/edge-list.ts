import type { Runtime } from '../backend.ts';
import type { EdgeList } from '../edge-list.ts';
import { AttentionError } from '../errors.ts';
import type { HostTensor, Tensor } from '../tensor.ts';
import { isHostTensor } from '../tensor.ts';
import { show } from '../show.ts';
import { checkTensor } from './tensors.ts';

/**
 * Checks the shapes of an edge list, and its contents where the host can see them (L17).
 *
 * @throws AttentionError `invalid-edges`; `duplicate-edge` naming the edge; and those of a tensor
 */
export function checkEdgeList(list: EdgeList, sizes: { readonly queryRows: number; readonly keyRows: number }, runtime?: Runtime): void {
  const given: unknown = list;
  if (typeof given !== 'object' || given === null) throw invalid(`edges is ${show(given)}`, 'Pass { starts, keys }; edgeList(pairs) makes one.');
  const starts = part('starts', list.starts, runtime);
  const keys = part('keys', list.keys, runtime);
  if (starts.shape.length !== 1 || starts.shape[0] !== sizes.queryRows + 1) {
    throw invalid(`edges.starts has shape [${starts.shape.join(', ')}]`, `Expected [${sizes.queryRows + 1}]: one more than there are queries.`);
  }
  if (keys.shape.length !== 1) throw invalid(`edges.keys has shape [${keys.shape.join(', ')}]`, 'Expected one axis.');
  if (isHostTensor(starts) && isHostTensor(keys)) checkContents(starts, keys, sizes.keyRows);
}

function invalid(what: string, hint: string): AttentionError {
  return new AttentionError('invalid-edges', `${what}.`, hint);
}

function part(name: string, given: unknown, runtime: Runtime | undefined): Tensor {
  const tensor = checkTensor(`edges.${name}`, given, runtime);
  if (tensor.dtype !== 'i32') throw invalid(`edges.${name} is ${tensor.dtype}`, 'Expected i32.');
  return tensor;
}

function checkContents(starts: HostTensor, keys: HostTensor, keyRows: number): void {
  const edges = keys.shape[0] ?? 0;
  const [startStep = 1] = starts.strides;
  const [keyStep = 1] = keys.strides;
  const start = starts.view();
  const key = keys.view();
  const queries = (starts.shape[0] ?? 1) - 1;
  if (start[0] !== 0 || start[queries * startStep] !== edges) {
    throw invalid(`edges.starts runs from ${show(start[0])} to ${show(start[queries * startStep])}`, `Expected 0 to ${edges}, the number of edges.`);
  }
  // lastQuery[key]: the query that named this key last, plus one. Rows that ascend, as `edgeList` makes them, need none.
  let lastQuery: Int32Array | null = null;
  let from = 0;
  for (let query = 0; query < queries; query++) {
    const to = start[(query + 1) * startStep] ?? 0;
    if (to < from || to > edges) throw invalid(`edges.starts[${query + 1}] is ${to}, after ${from}`, `Expected ascending numbers up to ${edges}.`);
    if (!ascends(key, keyStep, from, to, keyRows)) {
      lastQuery ??= new Int32Array(keyRows);
      checkRow(key, keyStep, { query, from, to, keyRows }, lastQuery);
    }
    from = to;
  }
}

/** Whether each key of a row is larger than the one before it, and all of them are rows. */
function ascends(key: ArrayLike<number>, step: number, from: number, to: number, keyRows: number): boolean {
  let before = -1;
  for (let place = from * step; place < to * step; place += step) {
    const target = key[place] ?? -1;
    if (target <= before) return false;
    before = target;
  }
  return before < keyRows;
}

function checkRow(key: ArrayLike<number>, step: number, { query, from, to, keyRows }: { readonly query: number; readonly from: number; readonly to: number; readonly keyRows: number }, lastQuery: Int32Array): void {
  for (let edge = from; edge < to; edge++) {
    const target = key[edge * step] ?? -1;
    if (target < 0 || target >= keyRows) throw invalid(`edges.keys[${edge}] is ${target}`, `Expected 0 … ${keyRows - 1}.`);
    if (lastQuery[target] === query + 1) {
      throw new AttentionError('duplicate-edge', `The edge from key ${target} to query ${query} stands twice.`, 'Name each edge once: a weight belongs in a modifier.');
    }
    lastQuery[target] = query + 1;
  }
}
