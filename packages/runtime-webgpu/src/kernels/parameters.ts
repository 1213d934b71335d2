import type { Declarations } from '@heed/core';
import { identifier } from '../wgsl/writer.ts';

/** A field of the uniform struct of a program. */
export interface ParameterField {
  readonly name: string;
  readonly type: 'u32' | 'i32' | 'f32';
  readonly comment?: string;
}

/** Fields of everything that a variant declares: tables with their places and steps, then uniforms. */
export function declaredFields({ tables, uniforms }: Declarations): readonly ParameterField[] {
  const fields: ParameterField[] = [];
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
