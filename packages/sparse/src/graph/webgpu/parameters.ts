import type { AttentionVariant } from '@heed/core';
import { declaredFields, type ParameterField } from '@heed/runtime-webgpu';

/** Sizes and places that every call has. */
const common: readonly ParameterField[] = [
  { name: 'firstTask', type: 'u32', comment: 'this dispatch computes tasks firstTask … endTask − 1' },
  { name: 'endTask', type: 'u32' },
  { name: 'taskOffset', type: 'u32', comment: 'tasks of the stages before this one' },
  { name: 'heads', type: 'i32' },
  { name: 'keyHeads', type: 'i32' },
  { name: 'headOffset', type: 'u32' },
  { name: 'queryRows', type: 'i32', comment: 'rows of the tensors for each entry of the batch' },
  { name: 'keyRows', type: 'i32' },
  { name: 'sequencesAt', type: 'u32', comment: 'where lists begin in integers' },
  { name: 'startsAt', type: 'u32' },
  { name: 'edgesAt', type: 'u32' },
  { name: 'edgeCount', type: 'u32' },
  { name: 'scratchFirst', type: 'u32', comment: 'edges of the tasks before this stage' },
  { name: 'rowCount', type: 'u32', comment: 'rows of one plane of statistics' },
  { name: 'observedHeadsAt', type: 'u32', comment: 'where each head and row stands among those looked at, or −1' },
  { name: 'observedRowsAt', type: 'u32' },
  { name: 'observedHeads', type: 'i32' },
  { name: 'observedRows', type: 'i32' },
];

/** The fields of a variant's programs, in order: common ones, tables with their places and steps, then uniforms. */
export function parameterFields(variant: AttentionVariant): readonly ParameterField[] {
  return [...common, ...declaredFields(variant)];
}
