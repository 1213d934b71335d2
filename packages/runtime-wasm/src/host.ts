/** What differs between Node, Deno, Bun and browsers, without importing what only some of them have. */

interface ProcessLike {
  getBuiltinModule?(name: string): unknown;
}

/** A module of Node's standard library where there is one: Node ≥ 20.16, Deno, Bun. */
export function builtinModule(name: string): unknown {
  const { process } = globalThis as { readonly process?: ProcessLike };
  try {
    return process?.getBuiltinModule?.(`node:${name}`);
  } catch {
    return undefined;
  }
}

/** Threads that the machine runs at once; 1 when nobody says. */
export function hardwareThreads(): number {
  const { navigator } = globalThis as { readonly navigator?: { readonly hardwareConcurrency?: number } };
  if (navigator?.hardwareConcurrency !== undefined) return Math.max(1, navigator.hardwareConcurrency);
  const os = builtinModule('os') as { availableParallelism?(): number } | undefined;
  return Math.max(1, os?.availableParallelism?.() ?? 1);
}
