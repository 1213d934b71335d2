import { AttentionError } from '@heed/core';

export interface DeviceOptions {
  /** Yours, shared with your own work; it is not destroyed by `dispose`. Default: a new one. */
  readonly device?: GPUDevice;
  /** Which adapter a new device comes from. Default: the platform's choice of high performance. */
  readonly powerPreference?: GPUPowerPreference;
  /** Most bytes of one storage binding; longer tensors are bound in ranges. Default: what the device allows. */
  readonly bindingBytes?: number;
}

/** A device and whose it is. */
export interface AcquiredDevice {
  readonly device: GPUDevice;
  readonly owned: boolean;
  /** In words, for `explain()`. */
  readonly description: string;
  /** Kept while the device lives: in Node the adapter's instance must outlive its devices. */
  readonly gpu: GPU | null;
}

/** What a device allows, for plans. */
export interface Machine {
  /** Of one workgroup. */
  readonly invocations: number;
  /** Of workgroup memory. */
  readonly workgroupBytes: number;
  /** Of one storage binding; a longer buffer is bound in ranges. */
  readonly bindingBytes: number;
  /** Of one buffer. */
  readonly bufferBytes: number;
  /** Storage buffers of one shader; eight are guaranteed. */
  readonly storageBindings: number;
  /** Shaders may compute in and store float16. */
  readonly float16: boolean;
  /** Least and most invocations of a subgroup, where shaders may use subgroup operations; else null. */
  readonly subgroups: { readonly least: number; readonly most: number } | null;
  /** The device tells how long a pass took. */
  readonly timestamps: boolean;
}

/** Features that are used where they are offered. */
const wishes: readonly GPUFeatureName[] = ['shader-f16', 'subgroups', 'timestamp-query'];

/** Limits of which all that the adapter has is asked for. */
const limits = [
  'maxBufferSize', 'maxStorageBufferBindingSize', 'maxStorageBuffersPerShaderStage', 'maxComputeWorkgroupStorageSize', 'maxComputeInvocationsPerWorkgroup',
  'maxComputeWorkgroupSizeX', 'maxComputeWorkgroupSizeY', 'maxComputeWorkgroupSizeZ', 'maxComputeWorkgroupsPerDimension',
] as const;

/**
 * The user's device, or a new one: from `navigator.gpu`, or in Node from the optional peer `webgpu`.
 * @throws AttentionError `unsupported` where there is no WebGPU or no adapter
 */
export async function acquireDevice({ device, powerPreference = 'high-performance' }: DeviceOptions): Promise<AcquiredDevice> {
  if (device !== undefined) return { device, owned: false, description: `a device of the caller: ${describeAdapter(device.adapterInfo)}`, gpu: null };
  const gpu = await findGpu();
  const adapter = await gpu.requestAdapter({ powerPreference });
  if (adapter === null) {
    throw new AttentionError('unsupported', 'WebGPU is there, but no adapter.', 'Install a GPU driver; without a GPU, a software one such as SwiftShader (in Node on Linux: libvulkan1, and VK_ICD_FILENAMES naming its file).');
  }
  const requiredLimits = Object.fromEntries(limits.map((name) => [name, adapter.limits[name]]));
  const requiredFeatures = wishes.filter((feature) => adapter.features.has(feature));
  const made = await adapter.requestDevice({ label: 'heed', requiredFeatures, requiredLimits });
  return { device: made, owned: true, description: describeAdapter(adapter.info), gpu };
}

/** What plans may count on. */
export function machineOf({ limits: most, features, adapterInfo }: GPUDevice, { bindingBytes = Infinity }: Pick<DeviceOptions, 'bindingBytes'> = {}): Machine {
  const { subgroupMinSize, subgroupMaxSize } = adapterInfo;
  return {
    invocations: Math.min(most.maxComputeInvocationsPerWorkgroup, most.maxComputeWorkgroupSizeX),
    workgroupBytes: most.maxComputeWorkgroupStorageSize,
    bindingBytes: Math.min(bindingBytes, most.maxStorageBufferBindingSize),
    bufferBytes: most.maxBufferSize,
    storageBindings: most.maxStorageBuffersPerShaderStage,
    float16: features.has('shader-f16'),
    subgroups: features.has('subgroups') && subgroupMinSize > 0 ? { least: subgroupMinSize, most: subgroupMaxSize } : null,
    timestamps: features.has('timestamp-query'),
  };
}

function describeAdapter({ vendor, architecture, description }: GPUAdapterInfo): string {
  const parts = [vendor, architecture, description].filter((part) => part !== '');
  return parts.length === 0 ? 'an adapter without a name' : parts.join(' ');
}

async function findGpu(): Promise<GPU> {
  const here = typeof navigator === 'undefined' ? undefined : (navigator as { readonly gpu?: GPU }).gpu;
  if (here !== undefined) return here;
  try {
    // Not a literal: bundlers for the browser would look for a package that only Node needs.
    const name = 'webgpu';
    const { create } = (await import(/* @vite-ignore */ /* webpackIgnore: true */ name)) as { readonly create: (flags: readonly string[]) => GPU };
    return create([]);
  } catch (cause) {
    throw new AttentionError('unsupported', 'There is no WebGPU here.', 'Use a browser that has it, or in Node install the package webgpu beside this one.', { cause });
  }
}
