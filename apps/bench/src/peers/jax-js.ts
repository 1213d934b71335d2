import { readFile } from 'node:fs/promises';
import type { Competitor } from '../competitor.ts';
import { wasmLimits } from '../limits.ts';
import { jaxJsCompetitor } from './jax-js-competitor.ts';

/** jax-js on its WebAssembly backend. Its threads are Web Workers made from a blob, which Node does not have; it then runs on one thread. */
export async function jaxJs(): Promise<Competitor> {
  const jax = await import('@jax-js/jax');
  return jaxJsCompetitor(jax, 'wasm', { about: `jax-js ${await installedVersion()}, WebAssembly, one thread (it has no more in Node).`, limit: wasmLimits.portable.perCore });
}

async function installedVersion(): Promise<string> {
  const manifest: unknown = JSON.parse(await readFile(new URL('../package.json', import.meta.resolve('@jax-js/jax')), 'utf8'));
  return typeof manifest === 'object' && manifest !== null && 'version' in manifest ? String(manifest.version) : 'of unknown version';
}
