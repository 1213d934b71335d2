/** Builds one WebAssembly function: named locals, structured control, and a type stack that is checked while emitting. */
import { ByteWriter } from './bytes.ts';
import { EmitError } from './emit-error.ts';
import { writeImmediates } from './immediates.ts';
import { instructions } from './instruction.ts';
import type { FunctionReference, Immediates, Local, Operand, Value } from './instruction.ts';
import { opcode, valueTypeCodes } from './opcodes.ts';
import type { Opcode, OpcodeName, ValueType } from './opcodes.ts';

/** The target of a branch: the end of a block, the start of a loop. */
export interface Label {
  readonly kind: 'label';
  readonly name: string;
}

interface Frame {
  readonly kind: 'function' | 'block' | 'loop' | 'if' | 'else';
  readonly label: Label;
  /** Height of the type stack where the frame began. */
  readonly height: number;
  /** After a branch that is always taken, operands may be missing. */
  unreachable: boolean;
}

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
  readonly #localNames = new Set<string>();
  readonly #labelNames: string[] = [];
  readonly #comments: { readonly position: number; readonly text: string }[] = [];
  readonly #code = new ByteWriter();
  readonly #stack: ValueType[] = [];
  readonly #frames: Frame[] = [];
  /** Vector constants made where the function begins, by their bytes; null where each is made where it stands. */
  readonly #constants: Map<string, PooledConstant> | null;

  constructor(name: string, parameters: readonly (readonly [name: string, type: ValueType])[], results: readonly ValueType[], { constantsOnce = false }: { readonly constantsOnce?: boolean } = {}) {
    this.#constants = constantsOnce ? new Map() : null;
    this.name = name;
    this.results = results;
    this.#parameterCount = parameters.length;
    for (const [parameter, type] of parameters) this.local(parameter, type);
    this.#frames.push({ kind: 'function', label: { kind: 'label', name }, height: 0, unreachable: false });
  }

  /** Parameters in order; the first locals of the function. */
  get parameters(): readonly Local[] {
    return this.#locals.slice(0, this.#parameterCount);
  }

  /** A new variable, zero at first. A name that is taken gets a number behind it. */
  local<Type extends ValueType>(name: string, type: Type): Local<Type> {
    let unique = name;
    for (let suffix = 2; this.#localNames.has(unique); suffix += 1) unique = `${name}.${suffix}`;
    this.#localNames.add(unique);
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
    this.#expect('local.set', [local.type], ` $${local.name}`);
    this.#localAccess('local.set', local);
  }

  /** An instruction for its effect: a store, an atomic, a call. Its result, if any, is dropped. */
  do(value: Exclude<Value, Local>): void {
    const before = this.#stack.length;
    this.push(value);
    if (this.#stack.length > before) this.op('drop');
  }

  /** Writes values onto the stack, in order. */
  push(...values: readonly Value[]): void {
    for (const value of values) this.#push(value, undefined);
  }

  /** Writes one opcode; its operands must be on the stack. For the rare place where no expression fits. */
  op(name: OpcodeName, immediates: Immediates = {}): void {
    const row = opcode(name);
    if (name === 'drop') {
      const frame = this.#frame();
      if (this.#stack.length <= frame.height && !frame.unreachable) throw this.#error('drop: the stack is empty');
      if (this.#stack.length > frame.height) this.#stack.pop();
    } else if (row.contextual || row.immediate === 'block' || name === 'else' || name === 'end') {
      throw this.#error(`${name} has its own method on the function builder`);
    } else {
      this.#expect(name, row.operands);
      this.#stack.push(...row.results);
    }
    this.#code.bytes(row.bytes);
    this.#immediates(row, immediates);
    if (name === 'unreachable') this.#markUnreachable();
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
    this.#expect('if', ['i32']);
    const label = this.#open('if', 'if');
    then(label);
    if (otherwise !== undefined) {
      this.#checkFrameEnd();
      const frame = this.#frames.pop();
      if (frame === undefined) throw this.#error('else without if');
      this.#frames.push({ kind: 'else', label, height: frame.height, unreachable: false });
      this.#code.bytes(opcode('else').bytes);
      otherwise(label);
    }
    this.#close();
  }

  br(label: Label): void {
    this.#code.bytes(opcode('br').bytes);
    this.#code.unsigned(this.#depth(label));
    this.#markUnreachable();
  }

  brIf(label: Label, condition: Operand<'i32'>): void {
    this.#push(condition, 'i32');
    this.#expect('br_if', ['i32'], ` $${label.name}`);
    this.#code.bytes(opcode('br_if').bytes);
    this.#code.unsigned(this.#depth(label));
  }

  /** Branches to `labels[index]`, or to `otherwise` when there is none. */
  brTable(index: Operand<'i32'>, labels: readonly Label[], otherwise: Label): void {
    this.#push(index, 'i32');
    this.#expect('br_table', ['i32']);
    this.#code.bytes(opcode('br_table').bytes);
    this.#code.unsigned(labels.length);
    for (const label of labels) this.#code.unsigned(this.#depth(label));
    this.#code.unsigned(this.#depth(otherwise));
    this.#markUnreachable();
  }

  return(...values: readonly Operand[]): void {
    if (values.length > this.results.length) {
      throw this.#error(`return: expected ${list(this.results)}, found ${values.length} values`);
    }
    values.forEach((value, index) => {
      this.#push(value, this.results[index]);
    });
    this.#expect('return', this.results);
    this.#code.bytes(opcode('return').bytes);
    this.#markUnreachable();
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
    if (this.#frames.length !== 1) throw this.#error('a block was left open');
    if (!this.#frame().unreachable || this.#stack.length > 0) this.#expect('end', this.results);
    if (this.#stack.length > 0) throw this.#error(`end: ${list(this.#stack)} left on the stack beyond the results`);
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

  #frame(): Frame {
    const frame = this.#frames.at(-1);
    if (frame === undefined) throw new EmitError(`$${this.name}: already finished`);
    return frame;
  }

  #structure(kind: 'block' | 'loop', name: string, body: (label: Label) => void): void {
    body(this.#open(kind, name));
    this.#close();
  }

  #open(kind: 'block' | 'loop' | 'if', name: string): Label {
    const label: Label = { kind: 'label', name };
    this.#frames.push({ kind, label, height: this.#stack.length, unreachable: false });
    this.#labelNames.push(name);
    this.#code.bytes(opcode(kind).bytes);
    this.#code.byte(emptyBlockType);
    return label;
  }

  #close(): void {
    this.#checkFrameEnd();
    this.#frames.pop();
    this.#code.bytes(opcode('end').bytes);
  }

  #checkFrameEnd(): void {
    const { height } = this.#frame();
    if (this.#stack.length !== height) {
      throw this.#error(`end: ${list(this.#stack.slice(height))} left on the stack; carry values out of blocks in locals`);
    }
  }

  #markUnreachable(): void {
    const frame = this.#frame();
    this.#stack.length = frame.height;
    frame.unreachable = true;
  }

  #depth(label: Label): number {
    const index = this.#frames.findLastIndex((frame) => frame.label === label);
    if (index < 0) throw this.#error(`branch to $${label.name}, which is not open here`);
    return this.#frames.length - 1 - index;
  }

  /** Pops operands; `unreachable` code may lack them. */
  #expect(name: OpcodeName, operands: readonly ValueType[], detail = ''): void {
    const { height, unreachable } = this.#frame();
    const found = this.#stack.slice(Math.max(height, this.#stack.length - operands.length));
    const wanted = operands.slice(operands.length - found.length);
    const complete = found.length === operands.length || unreachable;
    if (!complete || found.some((type, index) => type !== wanted[index])) {
      throw this.#error(`${name}${detail}: expected ${list(operands)}, found ${list(found)}`);
    }
    this.#stack.length -= found.length;
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
      case 'instruction': {
        if (this.#constants !== null && value.opcode.name === 'v128.const') {
          this.#push(this.#constantLocal(this.#constants, value.immediates), 'v128');
          return;
        }
        value.operands.forEach((operand, index) => {
          this.#push(operand, value.opcode.operands[index]);
        });
        this.op(value.opcode.name, value.immediates);
        return;
      }
      case 'select':
        this.#push(value.whenTrue, value.type);
        this.#push(value.whenFalse, value.type);
        this.#push(value.condition, 'i32');
        this.#expect('select', [value.type, value.type, 'i32']);
        this.#code.bytes(opcode('select').bytes);
        this.#stack.push(value.type);
        return;
      case 'tee':
        this.#push(value.value, value.type);
        this.#expect('local.tee', [value.local.type], ` $${value.local.name}`);
        this.#localAccess('local.tee', value.local);
        this.#stack.push(value.type);
        return;
      case 'call':
        this.#call(value.callee, value.operands);
    }
  }

  #call(callee: FunctionReference, operands: readonly Operand[]): void {
    operands.forEach((operand, index) => {
      this.#push(operand, callee.parameters[index]);
    });
    this.#expect('call', callee.parameters, ` $${callee.name}`);
    this.#code.bytes(opcode('call').bytes);
    this.#code.unsigned(callee.index);
    this.#stack.push(...callee.results);
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
    this.op(`${type}.const`, { constant: value });
  }

  #localAccess(name: 'local.get' | 'local.set' | 'local.tee', local: Local): void {
    if (local.owner !== this) throw this.#error(`${name}: $${local.name} belongs to another function`);
    this.#code.bytes(opcode(name).bytes);
    this.#code.unsigned(local.index);
  }

  #immediates(row: Opcode, immediates: Immediates): void {
    const problem = writeImmediates(this.#code, row, immediates);
    if (problem !== undefined) throw this.#error(`${row.name}: ${problem}`);
  }

  #error(message: string): EmitError {
    const path = this.#frames.slice(1).map(({ kind, label }) => `${kind} $${label.name}`);
    return new EmitError(`${[`$${this.name}`, ...path].join(', ')}: ${message}`);
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

const list = (types: readonly ValueType[]): string => (types.length === 0 ? 'nothing' : types.join(' '));
