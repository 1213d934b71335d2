import { write, type Expression, type Term } from '@heed/core';

/** An expression for `operations.elementwise`: the tensors by name, element by element. */
export function overElements<Name extends string>(names: readonly Name[], author: (tensors: Readonly<Record<Name, Term<'f32'>>>, uniform: (name: string) => Term<'f32'>) => Term<'f32'>): Expression {
  return write('finish', '', ({ table, uniform }) => {
    const tensors = Object.fromEntries(names.map((name) => [name, table(name, []).at()])) as Record<Name, Term<'f32'>>;
    return author(tensors, (name) => uniform(name, 0));
  }).expression;
}
