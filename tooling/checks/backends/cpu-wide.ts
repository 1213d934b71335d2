import { createCpuBackend, type CpuBackend } from '@heed/cpu';

/** Each try measures for 40 ms; the compiler that packs works in the background and may need longer on a busy machine. */
const tries = 50;

/**
 * Wide vectors, and packed: V8 does it on x64 with AVX2. Elsewhere the mode is asked for and nothing comes of it. Deno is not judged in this mode:
 * there code checks the bounds of memory, not the processor, and V8 packs nothing across such a check.
 * @throws Error where packing is possible and does not happen
 */
export async function createBackend(): Promise<CpuBackend> {
  for (let count = 1; ; count += 1) {
    const backend = await createCpuBackend({ vectors: 'wide' });
    const { packed, reason } = backend.runtime.wide;
    if (packed || process.arch !== 'x64') return backend;
    await backend.dispose();
    if (count === tries) throw new Error(`No wide vectors, which take an x64 processor with AVX2: ${reason}`);
  }
}
