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

const computeStage = 0x4;

const bufferTypes: Readonly<Record<Binding, GPUBufferBindingType>> = { uniform: 'uniform', read: 'read-only-storage', write: 'storage' };

/** Compiled programs by their text: the same text is compiled once. */
export class PipelineCache {
  readonly #device: GPUDevice;
  readonly #programs = new Map<string, Promise<Program>>();
  readonly #ready = new Map<string, Program>();

  constructor(device: GPUDevice) {
    this.#device = device;
  }

  /**
   * Compiles without stalling the caller.
   * @throws AttentionError `internal` naming the shader and the line
   */
  async compile(source: ProgramSource): Promise<Program> {
    const known = this.#programs.get(source.code);
    if (known !== undefined) return known;
    const made = this.#compile(source);
    this.#programs.set(source.code, made);
    try {
      return await made;
    } catch (error) {
      this.#programs.delete(source.code);
      throw error;
    }
  }

  /** Compiles now, for operations, which must answer at once. A mistake in the text surfaces at the runtime's next `idle`. */
  compileNow(source: ProgramSource): Program {
    const known = this.#ready.get(source.code);
    if (known !== undefined) return known;
    const { module, layout, descriptor } = this.#describe(source);
    const program: Program = { source, layout, pipeline: this.#device.createComputePipeline({ ...descriptor, compute: { module, entryPoint: 'main' } }) };
    this.#ready.set(source.code, program);
    this.#programs.set(source.code, Promise.resolve(program));
    return program;
  }

  clear(): void {
    this.#programs.clear();
    this.#ready.clear();
  }

  async #compile(source: ProgramSource): Promise<Program> {
    const { module, layout, descriptor } = this.#describe(source);
    try {
      const pipeline = await this.#device.createComputePipelineAsync({ ...descriptor, compute: { module, entryPoint: 'main' } });
      const program: Program = { source, layout, pipeline };
      this.#ready.set(source.code, program);
      return program;
    } catch (cause) {
      const { messages } = await module.getCompilationInfo();
      const lines = source.code.split('\n');
      const faults = messages.filter(({ type }) => type === 'error').map(({ lineNum, message }) => `line ${lineNum}: ${message} in '${lines[lineNum - 1]?.trim() ?? ''}'`);
      throw new AttentionError('internal', `Shader '${source.name}' does not compile: ${faults.length === 0 ? String(cause) : faults.join('; ')}.`, 'Please report it with the variant.', { cause });
    }
  }

  #describe(source: ProgramSource): { readonly module: GPUShaderModule; readonly layout: GPUBindGroupLayout; readonly descriptor: GPUPipelineDescriptorBase & GPUObjectDescriptorBase } {
    const device = this.#device;
    const module = device.createShaderModule({ label: source.name, code: source.code });
    const entries = source.bindings.map((kind, binding): GPUBindGroupLayoutEntry => ({ binding, visibility: computeStage, buffer: { type: bufferTypes[kind] } }));
    const layout = device.createBindGroupLayout({ label: source.name, entries });
    return { module, layout, descriptor: { label: source.name, layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }) } };
  }
}
