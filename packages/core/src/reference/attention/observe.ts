import type { ObservedStage } from '../../backend.ts';
import { AttentionError } from '../../errors.ts';
import { observedShapeOf } from '../../observed-shape.ts';
import type { HostTensor } from '../../tensor.ts';
import { Forward } from './forward.ts';
import type { Head } from './forward.ts';
import type { Operands } from './operands.ts';
import { denseTensor } from '../../dense-tensor.ts';
import type { Steps } from './slices.ts';

/**
 * What was asked to be seen: f32 [batch, heads, rows, keyLength] for each stage, and [batch, heads, keyLength] of key mass, the sum of the stage `weights` (L8).
 * Pairs of padding, and of two packed sequences, are −∞ in `masked` and 0 in the other stages.
 */
export interface Observed {
  readonly observed: Readonly<Partial<Record<ObservedStage, HostTensor>>>;
  readonly keyMass: HostTensor | null;
}

/** A second pass over the chosen heads and rows. @throws AttentionError `byte-budget` */
export function* observe(operands: Operands): Steps<Observed> {
  const { call } = operands;
  const { stages, keyMass = false, byteBudget = 64 * 2 ** 20 } = call.request.observe ?? { stages: [] };
  const { heads, rows, stage: shape, mass: massShape } = observedShapeOf(call);
  const count = (sizes: readonly number[]): number => sizes.reduce((product, size) => product * size, 1);
  const bytes = 4 * (stages.length * count(shape) + (keyMass ? count(massShape) : 0));
  if (bytes > byteBudget) {
    throw new AttentionError('byte-budget', `The observed stages take ${bytes} bytes; the budget is ${byteBudget}.`, 'Choose fewer rows or heads with inputs.observe, or raise observe.byteBudget.');
  }
  const arrays = new Map(stages.map((stage) => [stage, new Float64Array(count(shape)).fill(stage === 'masked' ? -Infinity : 0)]));
  const mass = new Float64Array(count(massShape));
  const forward = new Forward(operands);
  for (const head of forward.heads()) {
    const { tensorBatch, queryStart, queryLength, keyStart } = head.sequence;
    for (const [headAt, chosen] of heads.entries()) {
      if (chosen !== head.head) continue;
      const plane = tensorBatch * heads.length + headAt;
      for (const [rowAt, row] of rows.entries()) {
        yield;
        const query = row - queryStart;
        if (query < 0 || query >= queryLength) continue;
        const start = (plane * rows.length + rowAt) * call.keyRows + keyStart;
        for (const [stage, array] of arrays) stageRow(forward, head, query, stage).forEach((value, key) => (array[start + key] = value));
        if (!keyMass) continue;
        const massStart = plane * call.keyRows + keyStart;
        stageRow(forward, head, query, 'weights').forEach((weight, key) => (mass[massStart + key] = (mass[massStart + key] ?? 0) + weight));
      }
    }
  }
  return {
    observed: Object.fromEntries([...arrays].map(([stage, array]) => [stage, denseTensor(array, shape, 'f32')])),
    keyMass: keyMass ? denseTensor(mass, massShape, 'f32') : null,
  };
}

/** One row of a stage over the keys that count. Scores and modified scores exist for every pair of them; weights are 0 where nothing is allowed. */
function stageRow(forward: Forward, head: Head, query: number, stage: ObservedStage): Float64Array {
  const keys = range(head.sequence.keyLength);
  if (stage === 'scores') return forward.scores(head, query, keys).at(0) ?? new Float64Array(0);
  if (stage === 'modified') return forward.scores(head, query, keys).at(-1) ?? new Float64Array(0);
  const result = new Float64Array(keys.length).fill(stage === 'masked' ? -Infinity : 0);
  if (stage === 'masked') {
    const visible = forward.visibleKeys(head, query);
    const scores = forward.scores(head, query, visible).at(-1);
    visible.forEach((key, index) => (result[key] = scores?.[index] ?? Number.NaN));
    return result;
  }
  const row = forward.row(head, query);
  row.keys.forEach((key, index) => (result[key] = row.poisoned ? Number.NaN : (row.normalized.weights[index] ?? Number.NaN)));
  return result;
}

function range(length: number): readonly number[] {
  return Array.from({ length }, (_, index) => index);
}
