export { disassemble } from './emit/disassemble.ts';
export { EmitError } from './emit/emit-error.ts';
export { FunctionBuilder } from './emit/function.ts';
export type { CountedLoop, Label } from './emit/function.ts';
export { call, constantF32x4, constantI32x4, instructions, lanesI32x4, select, tee } from './emit/instruction.ts';
export type {
  Call,
  FunctionReference,
  Immediates,
  Instruction,
  Instructions,
  Local,
  Operand,
  Select,
  Tee,
  Value,
} from './emit/instruction.ts';
export { ModuleBuilder } from './emit/module.ts';
export type { MemoryLimits, Signature } from './emit/module.ts';
export { opcode, opcodes } from './emit/opcodes.ts';
export type { ControlName, Immediate, Opcode, OpcodeName, PlainName, ValueType } from './emit/opcodes.ts';
