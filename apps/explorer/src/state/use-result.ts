import { isAttentionError } from '@heed/core';
import { useEffect, useRef, useState } from 'react';
import { Backends } from '../model/backends.ts';
import { Caller, isLost, type Result } from '../model/call.ts';
import type { HeadTables } from '../model/heads.ts';
import type { Described } from '../model/variant.ts';
import type { BackendName } from './state.ts';

export interface Computed {
  readonly result: Result | null;
  /** What the result was computed from: its heads, which may be older than those asked for. */
  readonly heads: HeadTables | null;
  readonly problem: string | null;
}

/** Runs the variant whenever something changed; the last call wins, and an old result stays until there is a new one. */
export function useResult(name: BackendName, described: Described, heads: HeadTables | null, uniforms: Readonly<Record<string, number>>): Computed {
  const [computed, setComputed] = useState<Computed>({ result: null, heads: null, problem: null });
  const tools = useRef<{ readonly backends: Backends; readonly caller: Caller } | null>(null);
  tools.current ??= { backends: new Backends(), caller: new Caller() };
  const key = JSON.stringify([described.variant.structure, uniforms]);
  useEffect(() => {
    let current = true;
    const compute = async (again: boolean): Promise<void> => {
      const { backends, caller } = tools.current ?? { backends: new Backends(), caller: new Caller() };
      if (heads === null) return;
      try {
        const result = await caller.run(await backends.get(name), described, heads, uniforms);
        if (current) setComputed({ result, heads, problem: null });
      } catch (error) {
        if (isLost(error)) backends.forget(name);
        if (isLost(error) && again && current) return compute(false);
        if (current) setComputed((before) => ({ ...before, problem: isAttentionError(error) ? error.message : `${name}: ${error instanceof Error ? error.message : String(error)}` }));
      }
    };
    void compute(true);
    return () => {
      current = false;
    };
    // The variant is told by its structure.
  }, [name, key, heads]);
  return computed;
}
