import type { AttentionVariant } from '@heed/core';
import { declaredFields, type ParameterField } from '@heed/runtime-webgpu';

/** Sizes and places that every call has. */
const common: readonly ParameterField[] = [
  { name: 'firstTask', type: 'u32', comment: 'this dispatch computes tasks firstTask … endTask − 1' },
  { name: 'endTask', type: 'u32' },
  { name: 'heads', type: 'i32' },
  { name: 'keyHeads', type: 'i32' },
  { name: 'headOffset', type: 'u32' },
  { name: 'queryRows', type: 'i32', comment: 'rows of the tensors for each entry of the batch' },
  { name: 'keyRows', type: 'i32' },
  { name: 'sequencesAt', type: 'u32', comment: 'where records begin in integers' },
  { name: 'tasksAt', type: 'u32' },
  { name: 'scratchStride', type: 'u32', comment: 'numbers of one row in scratch' },
  { name: 'rowCount', type: 'u32', comment: 'rows of one plane of statistics' },
];

/** The fields of a variant's programs, in order: common ones, tables with their places and steps, then uniforms. */
export function parameterFields(variant: AttentionVariant): readonly ParameterField[] {
  return [...common, ...declaredFields(variant)];
}
