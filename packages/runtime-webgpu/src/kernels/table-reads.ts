import type { Declarations } from '@heed/core';
import { identifier, type WgslWriter } from '../wgsl/writer.ts';

/** A function for each table that reads one element from the binding `tables`, where `parameters` says; the builtin `finite` must be declared where one holds f32. */
export function writeTableReads(writer: WgslWriter, { tables }: Pick<Declarations, 'tables'>): void {
  for (const [name, { type, axes }] of Object.entries(tables)) {
    const table = identifier('table', name);
    const indices = axes.map((_, axis) => `i${axis}: i32`).join(', ');
    const place = ['parameters.' + `${table}_at`, ...(axes.length === 0 ? [] : [`u32(${axes.map((_, axis) => `i${axis} * parameters.${table}_step${axis}`).join(' + ')})`])].join(' + ');
    writer.line('', `// ${name} [${axes.join(', ')}]`);
    writer.block(`fn ${table}(${indices}) -> ${type}`, () => {
      const word = `tables[${place}]`;
      writer.line(`return ${type === 'f32' ? `finite(${word})` : type === 'i32' ? `bitcast<i32>(${word})` : `${word} != 0u`};`);
    });
  }
}
