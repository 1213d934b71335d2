import { AttentionError } from '@heed/core';
import type { Competitor } from '../competitor.ts';
import type { StartOptions } from '../competitors.ts';
import { wasmLimits } from '../limits.ts';
import { tfjsCompetitor } from './tfjs-competitor.ts';

/**
 * TensorFlow.js on its WebAssembly backend. It starts no threads in Node (its flag WASM_HAS_MULTITHREAD_SUPPORT is false there, and where it is set by
 * hand, starting a worker fails).
 */
export async function tfjs({ threads }: StartOptions): Promise<Competitor> {
  const [core, wasm] = await Promise.all([import('@tensorflow/tfjs-core'), import('@tensorflow/tfjs-backend-wasm')]);
  wasm.setThreadsCount(threads);
  if (!(await core.setBackend('wasm'))) throw new AttentionError('unsupported', 'TensorFlow.js refused its backend wasm.', 'Leave it out.');
  await core.ready();
  const started = wasm.getThreadsCount();
  const about = `TensorFlow.js ${core.version_core}, WebAssembly, ${started === 1 ? 'one thread (it has no more in Node)' : `${started} threads`}, keys transposed beforehand.`;
  return tfjsCompetitor(core, { about, limit: started === 1 ? wasmLimits.portable.perCore : wasmLimits.portable.allCores }, () => undefined);
}
