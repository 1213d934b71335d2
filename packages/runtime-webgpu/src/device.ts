import { AttentionError } from '@heed/core';

export interface DeviceOptions {
  /** Yours, shared with your own work; it is not destroyed by `dispose`. Default: a new one. */
  readonly device?: GPUDevice;
  /** Which adapter a new device comes from. Default: the platform's choice of high performance. */
  readonly powerPreference?: GPUPowerPreference;
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

/** Features that are used where they are offered. */
const wishes: readonly GPUFeatureName[] = ['shader-f16', 'subgroups', 'timestamp-query'];

/** Limits of which all that the adapter has is asked for. */
const limits = ['maxBufferSize', 'maxStorageBufferBindingSize', 'maxComputeWorkgroupStorageSize', 'maxComputeInvocationsPerWorkgroup', 'maxComputeWorkgroupSizeX'] as const;

/**
 * The user's device, or a new one: from `navigator.gpu`, or in Node from the optional peer `webgpu`.
 * @throws AttentionError `unsupported` where there is no WebGPU or no adapter
 */
export async function acquireDevice({ device, powerPreference = 'high-performance' }: DeviceOptions): Promise<AcquiredDevice> {
  if (device !== undefined) return { device, owned: false, description: 'a device of the caller', gpu: null };
  const gpu = await findGpu();
  const adapter = await gpu.requestAdapter({ powerPreference });
  if (adapter === null) {
    throw new AttentionError('unsupported', 'WebGPU is there, but no adapter.', 'Install a GPU driver; without a GPU, a software one such as SwiftShader (in Node on Linux: libvulkan1, and VK_ICD_FILENAMES naming its file).');
  }
  const requiredLimits = Object.fromEntries(limits.map((name) => [name, adapter.limits[name]]));
  const requiredFeatures = wishes.filter((feature) => adapter.features.has(feature));
  const { vendor, architecture, description } = adapter.info;
  const made = await adapter.requestDevice({ label: 'heed', requiredFeatures, requiredLimits });
  return { device: made, owned: true, description: [vendor, architecture, description].filter((part) => part !== '').join(' '), gpu };
}

async function findGpu(): Promise<GPU> {
  const here = typeof navigator === 'undefined' ? undefined : (navigator as { readonly gpu?: GPU }).gpu;
  if (here !== undefined) return here;
  try {
    const { create } = await import('webgpu');
    return create([]);
  } catch (cause) {
    throw new AttentionError('unsupported', 'There is no WebGPU here.', 'Use a browser that has it, or in Node install the package webgpu beside this one.', { cause });
  }
}
