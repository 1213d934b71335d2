import type { HostTensor, ObservedStage } from '@heed/core';
import type { BoundCall, ObservedShape } from '@heed/core/compute';
import type { LinkedTask } from './call.ts';
import type { BlockTask, KeyTile } from './schedule.ts';
import { scheduleOf } from './schedule.ts';
import type { Plan } from './plan.ts';

/** What is not visited: keys outside of a row's sequence. */
export function fillUnseen(stage: ObservedStage, target: HostTensor): void {
  target.view().fill(stage === 'masked' ? -Infinity : 0);
}

/**
 * Chains of tasks over the chosen rows, one chain for each head of each sequence, first tasks of all chains in front. A task is one row, or several that
 * stand one after another and walk over the same keys; gaps between their tiles are filled with tiles that allow nothing, since scores exist there too.
 */
export function observationChains(call: BoundCall, plan: Plan, shape: ObservedShape, massAddress: number): { readonly tasks: readonly LinkedTask[]; readonly chains: number } {
  const own = new Map<string, BlockTask>();
  for (const task of scheduleOf(call, plan)) for (const row of task.rows) own.set(`${task.sequence} ${task.head} ${row}`, task);
  const chains: LinkedTask[][] = [];
  const { keyRows } = call;
  for (const [index, sequence] of call.sequences.entries()) {
    const tiles = new Map<readonly KeyTile[], readonly KeyTile[]>();
    for (const [headAt, head] of shape.heads.entries()) {
      const chain: LinkedTask[] = [];
      const block = sequence.tensorBatch * shape.heads.length + headAt;
      for (const [rowAt, tensorRow] of shape.rows.entries()) {
        const row = tensorRow - sequence.queryStart;
        if (row < 0 || row >= sequence.queryRows) continue;
        const found = own.get(`${index} ${head} ${row}`)?.tiles ?? [];
        const whole = tiles.get(found) ?? withGaps(found, sequence.keyRows, plan);
        tiles.set(found, whole);
        const observed = ((block * shape.rows.length + rowAt) * keyRows + sequence.keyStart) * 4;
        const mass = massAddress + (block * keyRows + sequence.keyStart) * 4;
        const last = chain.at(-1);
        if (last?.tiles === whole && last.observed + last.rows.length * keyRows * 4 === observed) chain[chain.length - 1] = { ...last, rows: [...last.rows, row] };
        else chain.push({ sequence: index, head, rows: [row], tiles: whole, next: -1, observed, mass });
      }
      if (chain.length > 0) chains.push(chain);
    }
  }
  return { tasks: linked(chains), chains: chains.length };
}

/** First tasks of all chains, then the rest, each naming the one behind it. */
function linked(chains: readonly (readonly LinkedTask[])[]): readonly LinkedTask[] {
  const tasks: LinkedTask[] = [];
  const behind = chains.length;
  const rest: LinkedTask[] = [];
  for (const chain of chains) {
    chain.forEach((task, place) => {
      const next = place === chain.length - 1 ? -1 : behind + rest.length + (place === 0 ? 0 : 1);
      if (place === 0) tasks.push({ ...task, next });
      else rest.push({ ...task, next });
    });
  }
  return [...tasks, ...rest];
}

/** The tiles, and between them tiles where no key is allowed, up to the last key there is. */
function withGaps(tiles: readonly KeyTile[], keyRows: number, plan: Plan): readonly KeyTile[] {
  const whole: KeyTile[] = [];
  const end = Math.ceil(keyRows / plan.stepKey) * plan.stepKey;
  let place = 0;
  const fill = (to: number): void => {
    for (; place < to; place += plan.blockKey) {
      const last = Math.min(place + plan.blockKey, to);
      whole.push({ first: place, end: last, low: last, high: last, mixed: true, rowFrom: 0, rowTo: plan.blockQuery });
    }
    place = to;
  };
  for (const tile of tiles) {
    if (tile.first > place) fill(tile.first);
    whole.push(tile);
    place = Math.max(place, tile.end);
  }
  if (place < end) fill(end);
  return whole;
}
