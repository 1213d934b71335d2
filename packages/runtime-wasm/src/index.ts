export { disassemble } from './emit/disassemble.ts';
export { EmitError } from './emit/emit-error.ts';
export { FunctionBuilder } from './emit/function.ts';
export type { CountedLoop } from './emit/function.ts';
export type { Label } from './emit/type-stack.ts';
export { call, constantF32x4, constantF64x2, constantI32x4, constantI64x2, instructions, lanesI32x4, select, tee } from './emit/instruction.ts';
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

export { Lowering } from './emit/expression.ts';
export type { LaneEnvironment, LoweringOptions } from './emit/expression.ts';
export { fromBfloat16, fromFloat16, loadFloat, loadFloats, storageBytes, storeFloat, storeFloats, toBfloat16, toFloat16 } from './emit/half.ts';
export type { FloatStorage } from './emit/half.ts';
export { cos, exp, log, pow, sigmoid, sin, tanh } from './emit/math.ts';
export type { Lanes } from './emit/math.ts';
export { clearTile, declareTile, multiplyAdd, multiplySubtract, rowsProduct, storeTile, tileProduct } from './emit/matmul.ts';
export type { Arithmetic, RowsProduct, TileProduct, TileShape, TileSums } from './emit/matmul.ts';

export { createWasmRuntime, WasmRuntime } from './runtime.ts';
export type { CallOptions, Machine, WasmRuntimeOptions } from './runtime.ts';
export type { Program } from './cache.ts';
export type { Job, KernelFunction, Phase, Submission } from './threads/job.ts';
export type { Spawn, SpawnedWorker, WorkerEvents } from './threads/spawn.ts';
export { LinearMemory, readableBeyond } from './memory.ts';
export type { MemoryOptions } from './memory.ts';
export { probe } from './probe.ts';
export type { Features, WideVectors } from './probe.ts';
export { measureLimits } from './limits.ts';
export type { Limit, WasmLimits } from './limits.ts';
export { floatBits, kernelParameters } from './operations/words.ts';

export { CallMemory } from './kernels/call-memory.ts';
export type { Placed } from './kernels/call-memory.ts';
export { Exponential, minusInfinity } from './kernels/exponential.ts';
export { largestLane, sumOfLanes } from './kernels/lanes.ts';
export { normalizeRow } from './kernels/normalize-row.ts';
export type { RowNormalization, TermRow } from './kernels/normalize-row.ts';
export { laneNumbers, Place, queryTableRows } from './kernels/place.ts';
export type { Inputs, PlaceOptions, Surroundings, Vector } from './kernels/place.ts';
export { queryTableProducts } from './kernels/query-table.ts';
export type { QueryTableProducts } from './kernels/query-table.ts';
export { recordsOf, WordRecord, words } from './kernels/records.ts';
export type { Words } from './kernels/records.ts';
export { loadRow, storeRow } from './kernels/rows.ts';
export { transformRow } from './kernels/transform-row.ts';
export type { RowSource } from './kernels/transform-row.ts';
export { queryTableRowsWord, tableStrideWord, tableWord, turnWord, uniformWord } from './kernels/word-names.ts';
