import type { Plan } from '../plan.ts';
import type { KernelBody } from './module.ts';

/** Shares of a row that are left when neighbouring lanes have reduced by subgroup operations. */
export function sharesOf({ tile, subgroup }: Plan): number {
  return tile.lanes / subgroup;
}

/**
 * Functions that reduce over neighbouring lanes, as many as every subgroup of the device surely holds: lane l of a team is invocation l of its subgroup, or one
 * that many lanes on, so partners differ in one bit of their number.
 */
export function laneFunctions({ subgroup }: Plan, names: readonly ('sum' | 'maximum')[]): readonly string[] {
  if (subgroup === 1) return [];
  return names.flatMap((name) => {
    const steps: string[] = [];
    for (let step = 1; step < subgroup; step *= 2) steps.push(name === 'sum' ? `result += subgroupShuffleXor(result, ${step}u);` : `result = max(result, subgroupShuffleXor(result, ${step}u));`);
    return [`// The ${name} over ${subgroup} neighbouring lanes, the same for all of them.\nfn ${name}OfNeighbours(own: f32) -> f32 {\n  var result = own;\n  ${steps.join('\n  ')}\n  return result;\n}`, ''];
  });
}

/** The number itself, or its reduction over neighbouring lanes where the device has subgroups. */
export function ofNeighbours({ subgroup }: Plan, name: 'sum' | 'maximum', own: string): string {
  return subgroup === 1 ? own : `${name}OfNeighbours(${own})`;
}

/** Stores a share of a row: one lane of each group of neighbours. */
export function writeShare({ writer }: KernelBody, plan: Plan, value: string): void {
  const { subgroup } = plan;
  if (subgroup === 1) writer.line(`shares[slot * lanes + lane] = ${value};`);
  else writer.block(`if (lane % ${subgroup}u == 0u)`, () => writer.line(`shares[slot * ${sharesOf(plan)}u + lane / ${subgroup}u] = ${value};`));
}
