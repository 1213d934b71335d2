/** Rows shared among the lanes of a workgroup of 64: each lane takes every so manieth element, and what the lanes found is joined in a tree, always in the same order. */

/** Invocations of a workgroup. */
export const groupLanes = 64;

/** Lanes that share a row of so many elements, a power of two, so that short rows leave few of them idle. */
export function lanesOf(size: number): number {
  if (size >= 256) return groupLanes;
  return size >= 32 ? 16 : 4;
}

/** A function `name(local, own)` that joins the values of the lanes of a row by an operator of two values, in a tree; all of them must call it. */
export function joinLanes(name: string, lanes: number, join: (a: string, b: string) => string): string {
  return `fn ${name}(local: u32, own: f32) -> f32 {
  workgroupBarrier();
  shares[local] = own;
  for (var step = ${lanes / 2}u; step > 0u; step /= 2u) {
    workgroupBarrier();
    if (local % ${lanes}u < step) {
      shares[local] = ${join('shares[local]', 'shares[local + step]')};
    }
  }
  workgroupBarrier();
  return shares[local / ${lanes}u * ${lanes}u];
}`;
}

/** Locals of a body: the row of this invocation, `lane` within it, and where the row starts. Rows past the last repeat it and must not be written. */
export function rowLocals(lanes: number): readonly string[] {
  return [
    `let own = group * ${groupLanes / lanes}u + local / ${lanes}u;`,
    'let row = min(own, parameters.rows - 1u);',
    `let lane = local % ${lanes}u;`,
    'let start = row * parameters.size;',
  ];
}
