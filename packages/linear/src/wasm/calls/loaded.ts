import type { TableDeclaration, UniformDeclaration } from '@heed/core';
import type { Program, WasmRuntime } from '@heed/runtime-wasm';
import { CallWriter } from './call.ts';
import { emitProgram } from '../emit/program.ts';
import { layoutsOf } from '../plan/layouts.ts';
import type { WasmPlan } from '../plan/machine-plan.ts';
import { scratchOf } from '../plan/scratch.ts';

/** A program with what it was made from. */
export interface Loaded {
  readonly plan: WasmPlan;
  readonly program: Program;
  readonly writer: CallWriter;
}

/** What of a variant the emitted code depends on beside the plan. */
export interface VariantParts {
  readonly structure: string;
  readonly uniforms: Readonly<Record<string, UniformDeclaration>>;
  readonly tables: Readonly<Record<string, TableDeclaration>>;
}

/** Emits and compiles the program of a plan, once for equal plans. */
export function load(runtime: WasmRuntime, plan: WasmPlan, { structure, uniforms, tables }: VariantParts): Loaded {
  const layouts = layoutsOf(plan, Object.keys(uniforms), tables);
  const names = ['recurrent', ...(plan.chunk === null ? [] : ['chunked', ...(plan.reading === 'pairs' ? ['absorb'] : [])])];
  const program = runtime.program(JSON.stringify(['linear', structure, plan]), names, () => emitProgram({ plan, layouts, scratch: scratchOf(plan), tables }));
  return { plan, program, writer: new CallWriter(plan, layouts, program.functions) };
}
