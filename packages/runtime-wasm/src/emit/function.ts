/** Builds one WebAssembly function: named locals, structured control, and a type stack that is checked while emitting. */
import { ByteWriter } from './bytes.ts';
import type { EmitError } from './emit-error.ts';
import { writeImmediates } from './immediates.ts';
import { instructions } from './instruction.ts';
import type { FunctionReference, Immediates, Instruction, Local, Operand, Value } from './instruction.ts';
import { opcode, valueTypeCodes } from './opcodes.ts';
import type { Opcode, OpcodeName, ValueType } from './opcodes.ts';
import { list, TypeStack, type Label } from './type-stack.ts';

export interface CountedLoop {
  readonly from?: Operand<'i32'>;
  /** Evaluated in every round, so pass a local or a constant. */
  readonly to: Operand<'i32'>;
  /** Default 1. */
  readonly step?: number;
  /** Compare as addresses, which may lie above 2 GiB. Default false. */
  readonly unsigned?: boolean;
  /** The body runs at least once, so that the first test is left out. Default false. */
  readonly atLeastOnce?: boolean;
}

interface PooledConstant {
  readonly local: Local<'v128'>;
  readonly immediates: Immediates;
}

const emptyBlockType = 0x40;

export class FunctionBuilder {
  readonly name: string;
  readonly results: readonly ValueType[];
  readonly #parameterCount: number;
  readonly #locals: Local[] = [];
  /** Locals of each name that was asked for. */
  readonly #localNames = new Map<string, number>();
  readonly #labelNames: string[] = [];
  readonly #comments: { readonly position: number; readonly text: string }[] = [];
  readonly #code = new ByteWriter();
  readonly #stack: TypeStack;
  /** Vector constants made where the function begins, by their bytes; null where each is made where it stands. */
  readonly #constants: Map<string, PooledConstant> | null;

  constructor(name: string, parameters: readonly (readonly [name: string, type: ValueType])[], results: readonly ValueType[], { constantsOnce = false }: { readonly constantsOnce?: boolean } = {}) {
    this.#constants = constantsOnce ? new Map() : null;
    this.name = name;
    this.results = results;
    this.#parameterCount = parameters.length;
    for (const [parameter, type] of parameters) this.local(parameter, type);
    this.#stack = new TypeStack(name);
  }

  /** Parameters in order; the first locals of the function. */
  get parameters(): readonly Local[] {
    return this.#locals.slice(0, this.#parameterCount);
  }

  /** A new variable, zero at first. A name that is taken gets a number behind it. */
  local<Type extends ValueType>(name: string, type: Type): Local<Type> {
    let unique = name;
    let count = this.#localNames.get(name) ?? 0;
    while (this.#localNames.has(unique)) {
      count += 1;
      unique = `${name}.${count}`;
    }
    this.#localNames.set(name, Math.max(1, count));
    if (unique !== name) this.#localNames.set(unique, 1);
    const local: Local<Type> = { kind: 'local', type, name: unique, index: this.#locals.length, owner: this };
    this.#locals.push(local);
    return local;
  }

  /** `count` variables `name0`, `name1`, … */
  localArray<Type extends ValueType>(name: string, type: Type, count: number): readonly Local<Type>[] {
    return Array.from({ length: count }, (_, index) => this.local(`${name}${index}`, type));
  }

  /** Computes a value once, into a new variable. */
  let<Type extends ValueType>(name: string, value: Value<Type>): Local<Type> {
    if (value.type === undefined) throw this.#error(`let ${name}: the instruction leaves no value`);
    const local = this.local(name, value.type);
    this.set(local, value);
    return local;
  }

  set<Type extends ValueType>(local: Local<Type>, value: Operand<Type>): void {
    this.#push(value, local.type);
    this.#stack.expect('local.set', [local.type], ` $${local.name}`);
    this.#localAccess('local.set', local);
  }

  /** An instruction for its effect: a store, an atomic, a call. Its result, if any, is dropped. */
  do(value: Exclude<Value, Local>): void {
    const before = this.#stack.height;
    this.push(value);
    if (this.#stack.height > before) this.op('drop');
  }

  /** Writes values onto the stack, in order. */
  push(...values: readonly Value[]): void {
    for (const value of values) this.#push(value, undefined);
  }

  /** Writes one opcode; its operands must be on the stack. For the rare place where no expression fits. */
  op(name: OpcodeName, immediates: Immediates = {}): void {
    const row = opcode(name);
    if (name === 'drop') {
      this.#stack.drop();
      this.#code.bytes(row.bytes);
      return;
    }
    if (row.contextual || row.immediate === 'block' || name === 'else' || name === 'end') throw this.#error(`${name} has its own method on the function builder`);
    this.#plain(row, immediates);
    if (name === 'unreachable') this.#stack.markUnreachable();
  }

  /** `label` ends the block: branching to it leaves. */
  block(name: string, body: (label: Label) => void): void {
    this.#structure('block', name, body);
  }

  /** `label` is the loop's start: branching to it repeats. */
  loop(name: string, body: (label: Label) => void): void {
    this.#structure('loop', name, body);
  }

  if(condition: Operand<'i32'>, then: (label: Label) => void, otherwise?: (label: Label) => void): void {
    this.#push(condition, 'i32');
    this.#stack.expect('if', ['i32']);
    const label = this.#open('if', 'if');
    then(label);
    if (otherwise !== undefined) {
      this.#stack.otherwise(label);
      this.#code.bytes(opcode('else').bytes);
      otherwise(label);
    }
    this.#close();
  }

  br(label: Label): void {
    this.#code.bytes(opcode('br').bytes);
    this.#code.unsigned(this.#stack.depth(label));
    this.#stack.markUnreachable();
  }

  brIf(label: Label, condition: Operand<'i32'>): void {
    this.#push(condition, 'i32');
    this.#stack.expect('br_if', ['i32'], ` $${label.name}`);
    this.#code.bytes(opcode('br_if').bytes);
    this.#code.unsigned(this.#stack.depth(label));
  }

  /** Branches to `labels[index]`, or to `otherwise` when there is none. */
  brTable(index: Operand<'i32'>, labels: readonly Label[], otherwise: Label): void {
    this.#push(index, 'i32');
    this.#stack.expect('br_table', ['i32']);
    this.#code.bytes(opcode('br_table').bytes);
    this.#code.unsigned(labels.length);
    for (const label of labels) this.#code.unsigned(this.#stack.depth(label));
    this.#code.unsigned(this.#stack.depth(otherwise));
    this.#stack.markUnreachable();
  }

  return(...values: readonly Operand[]): void {
    if (values.length > this.results.length) {
      throw this.#error(`return: expected ${list(this.results)}, found ${values.length} values`);
    }
    values.forEach((value, index) => {
      this.#push(value, this.results[index]);
    });
    this.#stack.expect('return', this.results);
    this.#code.bytes(opcode('return').bytes);
    this.#stack.markUnreachable();
  }

  /** Runs `body` while the condition, tested before each round, holds. */
  while(name: string, condition: () => Operand<'i32'>, body: () => void): void {
    this.block(`${name}.end`, (end) => {
      this.loop(name, (again) => {
        this.brIf(end, instructions.i32.eqz(condition()));
        body();
        this.br(again);
      });
    });
  }

  /**
   * Counts `counter` from `from` (default 0) to below `to`. The test stands at the end of the loop, as compilers like it,
   * with one guard before it.
   */
  for(counter: Local<'i32'>, { from = 0, to, step = 1, unsigned = false, atLeastOnce = false }: CountedLoop, body: () => void): void {
    const { i32 } = instructions;
    const inside = unsigned ? i32.lt_u(counter, to) : i32.lt_s(counter, to);
    const counted = (): void => {
      this.loop(counter.name, (again) => {
        body();
        this.set(counter, i32.add(counter, step));
        this.brIf(again, inside);
      });
    };
    this.set(counter, from);
    if (atLeastOnce) counted();
    else this.if(inside, counted);
  }

  /** A line in the listing, in front of what follows. */
  comment(text: string): void {
    this.#comments.push({ position: this.#code.length, text });
  }

  /**
   * Closes the function: its results must be on the stack.
   * @internal for the module builder
   */
  finish(): FinishedFunction {
    this.#stack.end(this.results);
    this.#code.bytes(opcode('end').bytes);

    const declarations = this.#locals.slice(this.#parameterCount);
    const runs: { count: number; readonly type: ValueType }[] = [];
    for (const { type } of declarations) {
      const last = runs.at(-1);
      if (last?.type === type) last.count += 1;
      else runs.push({ count: 1, type });
    }
    const body = new ByteWriter();
    body.unsigned(runs.length);
    for (const { count, type } of runs) {
      body.unsigned(count);
      body.byte(valueTypeCodes[type]);
    }
    for (const { local, immediates } of this.#constants?.values() ?? []) {
      const row = opcode('v128.const');
      body.bytes(row.bytes);
      writeImmediates(body, row, immediates);
      body.bytes(opcode('local.set').bytes);
      body.unsigned(local.index);
    }
    const codeStart = body.length;
    body.bytes(this.#code.view());
    return {
      body,
      localNames: this.#locals.map(({ name }) => name),
      labelNames: this.#labelNames,
      comments: this.#comments.map(({ position, text }) => ({ position: position + codeStart, text })),
    };
  }

  #structure(kind: 'block' | 'loop', name: string, body: (label: Label) => void): void {
    body(this.#open(kind, name));
    this.#close();
  }

  #open(kind: 'block' | 'loop' | 'if', name: string): Label {
    const label = this.#stack.open(kind, name);
    this.#labelNames.push(name);
    this.#code.bytes(opcode(kind).bytes);
    this.#code.byte(emptyBlockType);
    return label;
  }

  #close(): void {
    this.#stack.close();
    this.#code.bytes(opcode('end').bytes);
  }

  #push(value: Operand, expected: ValueType | undefined): void {
    if (typeof value === 'number' || typeof value === 'bigint') {
      this.#constant(value, expected);
      return;
    }
    switch (value.kind) {
      case 'local':
        this.#localAccess('local.get', value);
        this.#stack.push(value.type);
        return;
      case 'instruction':
        this.#instruction(value);
        return;
      case 'select':
        this.#push(value.whenTrue, value.type);
        this.#push(value.whenFalse, value.type);
        this.#push(value.condition, 'i32');
        this.#stack.expect('select', [value.type, value.type, 'i32']);
        this.#code.bytes(opcode('select').bytes);
        this.#stack.push(value.type);
        return;
      case 'tee':
        this.#push(value.value, value.type);
        this.#stack.expect('local.tee', [value.local.type], ` $${value.local.name}`);
        this.#localAccess('local.tee', value.local);
        this.#stack.push(value.type);
        return;
      case 'call':
        this.#call(value.callee, value.operands);
    }
  }

  #instruction({ opcode: row, operands, immediates }: Instruction): void {
    if (this.#constants !== null && row.name === 'v128.const') {
      this.#push(this.#constantLocal(this.#constants, immediates), 'v128');
      return;
    }
    // A loop, since this is where emitting spends its time.
    for (let index = 0; index < operands.length; index += 1) this.#push(operands[index] ?? 0, row.operands[index]);
    this.#plain(row, immediates);
  }

  /** An opcode that takes and leaves what its row says. */
  #plain(row: Opcode, immediates: Immediates): void {
    this.#stack.expect(row.name, row.operands);
    this.#stack.pushAll(row.results);
    this.#code.bytes(row.bytes);
    const problem = writeImmediates(this.#code, row, immediates);
    if (problem !== undefined) throw this.#error(`${row.name}: ${problem}`);
  }

  #call(callee: FunctionReference, operands: readonly Operand[]): void {
    for (let index = 0; index < operands.length; index += 1) this.#push(operands[index] ?? 0, callee.parameters[index]);
    this.#stack.expect('call', callee.parameters, ` $${callee.name}`);
    this.#code.bytes(opcode('call').bytes);
    this.#code.unsigned(callee.index);
    this.#stack.pushAll(callee.results);
  }

  #constantLocal(constants: Map<string, PooledConstant>, immediates: Immediates): Local<'v128'> {
    const key = String(immediates.constant);
    const known = constants.get(key);
    if (known !== undefined) return known.local;
    const local = this.local('constant', 'v128');
    constants.set(key, { local, immediates });
    return local;
  }

  #constant(value: number | bigint, type: ValueType | undefined): void {
    if (type === undefined || type === 'v128' || (type === 'i64') !== (typeof value === 'bigint')) {
      throw this.#error(`the number ${value} stands where ${type ?? 'no operand'} is expected`);
    }
    if (type === 'i32' && (!Number.isInteger(value) || value < -(2 ** 31) || value >= 2 ** 32)) {
      throw this.#error(`${value} is not a 32-bit integer`);
    }
    this.#plain(opcode(`${type}.const`), { constant: value });
  }

  #localAccess(name: 'local.get' | 'local.set' | 'local.tee', local: Local): void {
    if (local.owner !== this) throw this.#error(`${name}: $${local.name} belongs to another function`);
    this.#code.bytes(opcode(name).bytes);
    this.#code.unsigned(local.index);
  }

  #error(message: string): EmitError {
    return this.#stack.error(message);
  }
}

export interface FinishedFunction {
  /** Local declarations and code. */
  readonly body: ByteWriter;
  readonly localNames: readonly string[];
  /** In the order in which blocks, loops and ifs open. */
  readonly labelNames: readonly string[];
  /** Positions count from the start of `body`. */
  readonly comments: readonly { readonly position: number; readonly text: string }[];
}
