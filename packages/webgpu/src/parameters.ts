import type { AttentionVariant } from '@heed/core';
import { identifier } from '@heed/runtime-webgpu';

/** A field of the uniform struct that every program of a request shares. */
export interface ParameterField {
  readonly name: string;
  readonly type: 'u32' | 'i32' | 'f32';
  readonly comment?: string;
}

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
export function parameterFields({ tables, uniforms }: AttentionVariant): readonly ParameterField[] {
  const fields = [...common];
  for (const [name, { axes }] of Object.entries(tables)) {
    const table = identifier('table', name);
    fields.push({ name: `${table}_at`, type: 'u32' });
    axes.forEach((_, axis) => fields.push({ name: `${table}_step${axis}`, type: 'i32' }));
  }
  for (const [name, { type }] of Object.entries(uniforms)) fields.push({ name: identifier('uniform', name), type });
  return fields;
}

/** The words of the struct. Fields without a value are 0. */
export function parameterWords(fields: readonly ParameterField[], values: Readonly<Record<string, number>>): Uint32Array<ArrayBuffer> {
  const words = new Uint32Array(fields.length);
  const floats = new Float32Array(words.buffer);
  fields.forEach(({ name, type }, index) => {
    const value = values[name] ?? 0;
    if (type === 'f32') floats[index] = value;
    else words[index] = value;
  });
  return words;
}
