import type { Backend } from '@heed/core';
import type { BackendName } from '../state/state.ts';

/** Backends are loaded when they are first picked. */
const makers: Readonly<Record<BackendName, () => Promise<Backend>>> = {
  cpu: async () => (await import('@heed/cpu')).createCpuBackend(),
  webgpu: async () => (await import('@heed/webgpu')).createWebGpuBackend(),
  reference: async () => (await import('@heed/core/reference')).createReferenceBackend(),
};

/** The backends of a page, each made once. */
export class Backends {
  readonly #made = new Map<BackendName, Promise<Backend>>();

  /** @throws AttentionError where this browser cannot run it; asked again the next time */
  async get(name: BackendName): Promise<Backend> {
    const known = this.#made.get(name);
    if (known !== undefined) return known;
    const making = makers[name]();
    this.#made.set(name, making);
    making.catch(() => this.#made.delete(name));
    return making;
  }

  /** After a device was lost: the next call makes another. */
  forget(name: BackendName): void {
    this.#made.delete(name);
  }
}

/** What is slower here than it could be, in a sentence; null where nothing is. */
export function slowness(name: BackendName): string | null {
  if (name === 'cpu' && !globalThis.crossOriginIsolated) return 'This page is not cross-origin isolated, so one thread computes instead of all.';
  if (name === 'reference') return 'The reference computes in float64, one pair after another: exact, and slow.';
  return null;
}
