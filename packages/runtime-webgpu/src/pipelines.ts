import { AttentionError } from '@heed/core';

/** What stands at a binding of group 0: binding n is entry n. */
export type Binding = 'uniform' | 'read' | 'write';

/** A compute shader as text. Its entry point is `main`. */
export interface ProgramSource {
  /** How errors and tools call it. */
  readonly name: string;
  readonly code: string;
  readonly bindings: readonly Binding[];
}

/** A compiled shader. */
export interface Program {
  readonly source: ProgramSource;
  readonly pipeline: GPUComputePipeline;
  readonly layout: GPUBindGroupLayout;
}

export interface PipelineOptions {
  /** Pipelines that compile at the same time; more wait, so that a page goes on drawing. Default 4. */
  readonly compilations?: number;
}

const computeStage = 0x4;

const bufferTypes: Readonly<Record<Binding, GPUBufferBindingType>> = { uniform: 'uniform', read: 'read-only-storage', write: 'storage' };

/** Compiled programs by their text: the same text is compiled once. */
export class PipelineCache {
  readonly #device: GPUDevice;
  readonly #mostAtOnce: number;
  readonly #programs = new Map<string, Promise<Program>>();
  readonly #ready = new Map<string, Program>();
  /** Programs of `compileNow` whose validation is not back yet, by their text. */
  readonly #checks = new Map<string, Promise<AttentionError | undefined>>();
  readonly #waiting: (() => void)[] = [];
  #running = 0;

  constructor(device: GPUDevice, { compilations = 4 }: PipelineOptions) {
    this.#device = device;
    this.#mostAtOnce = compilations;
  }

  /** What was compiled, or is being compiled. */
  get size(): number {
    return this.#programs.size;
  }

  /**
   * Compiles without stalling the caller, a few at a time.
   * @throws AttentionError `internal` naming the shader and the line; `unsupported` naming the limit that it passes
   */
  async compile(source: ProgramSource): Promise<Program> {
    const known = this.#programs.get(source.code);
    if (known !== undefined) return known;
    const made = this.#inTurn(async () => this.#compile(source));
    this.#programs.set(source.code, made);
    try {
      return await made;
    } catch (error) {
      this.#programs.delete(source.code);
      throw error;
    }
  }

  /** Compiles now, for operations, which must answer at once; `checkOf` tells whether it went well. */
  compileNow(source: ProgramSource): Program {
    const known = this.#ready.get(source.code);
    if (known !== undefined) return known;
    const device = this.#device;
    this.#checkBindings(source);
    device.pushErrorScope('validation');
    const { module, layout, descriptor } = this.#describe(source);
    const program: Program = { source, layout, pipeline: device.createComputePipeline({ ...descriptor, compute: { module, entryPoint: 'main' } }) };
    const check = device.popErrorScope().then(
      async (error) => {
        const fault = error === null ? undefined : await faultOf(source, module, error.message);
        if (fault !== undefined) this.#forget(source);
        this.#checks.delete(source.code);
        return fault;
      },
      () => undefined,
    );
    this.#checks.set(source.code, check);
    this.#ready.set(source.code, program);
    if (!this.#programs.has(source.code)) this.#programs.set(source.code, Promise.resolve(program));
    return program;
  }

  /** What is wrong with a program of `compileNow`, as soon as the device says so; undefined where that is known already, or nothing is. */
  checkOf({ source }: Program): Promise<AttentionError | undefined> | undefined {
    return this.#checks.get(source.code);
  }

  /** The programs that were compiled, for another device. */
  sources(): readonly ProgramSource[] {
    return [...this.#ready.values()].map(({ source }) => source);
  }

  clear(): void {
    this.#programs.clear();
    this.#ready.clear();
  }

  #forget(source: ProgramSource): void {
    this.#ready.delete(source.code);
    this.#programs.delete(source.code);
  }

  async #inTurn<T>(work: () => Promise<T>): Promise<T> {
    if (this.#running < this.#mostAtOnce) this.#running += 1;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      return await work();
    } finally {
      // The next in line takes over the place of this one.
      const next = this.#waiting.shift();
      if (next === undefined) this.#running -= 1;
      else next();
    }
  }

  async #compile(source: ProgramSource): Promise<Program> {
    const device = this.#device;
    this.#checkBindings(source);
    // The compiler's complaint is told below, with its lines.
    device.pushErrorScope('validation');
    const { module, layout, descriptor } = this.#describe(source);
    device.popErrorScope().catch(() => null);
    try {
      const pipeline = await device.createComputePipelineAsync({ ...descriptor, compute: { module, entryPoint: 'main' } });
      const program: Program = { source, layout, pipeline };
      this.#ready.set(source.code, program);
      return program;
    } catch (cause) {
      throw await faultOf(source, module, cause instanceof Error ? cause.message : String(cause), cause);
    }
  }

  #checkBindings(source: ProgramSource): void {
    const storage = source.bindings.filter((kind) => kind !== 'uniform').length;
    const most = this.#device.limits.maxStorageBuffersPerShaderStage;
    if (storage > most) throw new AttentionError('unsupported', `Shader '${source.name}' reads and writes ${storage} buffers; maxStorageBuffersPerShaderStage of this device is ${most}.`, 'Use fewer tensors at once.');
  }

  #describe(source: ProgramSource): { readonly module: GPUShaderModule; readonly layout: GPUBindGroupLayout; readonly descriptor: GPUPipelineDescriptorBase & GPUObjectDescriptorBase } {
    const device = this.#device;
    const module = device.createShaderModule({ label: source.name, code: source.code });
    const entries = source.bindings.map((kind, binding): GPUBindGroupLayoutEntry => ({ binding, visibility: computeStage, buffer: { type: bufferTypes[kind] } }));
    const layout = device.createBindGroupLayout({ label: source.name, entries });
    return { module, layout, descriptor: { label: source.name, layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }) } };
  }
}

/** What the compiler says about a shader, with its lines; what the device says, where the compiler is content. */
async function faultOf(source: ProgramSource, module: GPUShaderModule, message: string, cause?: unknown): Promise<AttentionError> {
  const { messages } = await module.getCompilationInfo();
  const lines = source.code.split('\n');
  const faults = messages.filter(({ type }) => type === 'error').map((fault) => `line ${fault.lineNum}: ${fault.message} in '${lines[fault.lineNum - 1]?.trim() ?? ''}'`);
  return new AttentionError('internal', `Shader '${source.name}' does not compile: ${faults.length === 0 ? message : faults.join('; ')}.`, 'Please report it with the variant.', { cause });
}
