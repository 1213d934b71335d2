import { parseArgs } from 'node:util';
import { createCpuBackend } from '@heed/cpu';
import { cacheKinds, type CacheKind } from './caches.ts';
import { Decoder, likeliest } from './decoder.ts';
import { shapes, type ShapeName } from './shapes.ts';

const { values } = parseArgs({ options: { shape: { type: 'string', default: 'gpt2' }, cache: { type: 'string', default: 'contiguous' }, prompt: { type: 'string', default: '128' }, tokens: { type: 'string', default: '32' } } });
if (!(values.shape in shapes)) throw new Error(`No shape '${values.shape}'. There are ${Object.keys(shapes).join(', ')}.`);
if (values.cache !== 'none' && !(values.cache in cacheKinds)) throw new Error(`No cache '${values.cache}'. There are none, ${Object.keys(cacheKinds).join(', ')}.`);
await run(values.shape as ShapeName, values.cache as CacheKind | 'none', Number(values.prompt), Number(values.tokens));

/** Reads a prompt and goes on by the likeliest tokens, and prints how fast and how large. */
async function run(name: ShapeName, kind: CacheKind | 'none', promptLength: number, count: number): Promise<void> {
  const backend = await createCpuBackend();
  const { runtime } = backend;
  const decoder = await Decoder.create(backend, shapes[name]);
  await runtime.idle();
  const weights = runtime.memory().bytes;
  const caches = kind === 'none' ? [] : decoder.cacheShapes.map((shape) => cacheKinds[kind](shape, promptLength + count));
  const prompt = Array.from({ length: promptLength }, (_, index) => (index * 7919 + 13) % decoder.shape.vocabulary);

  const started = performance.now();
  const logits = await decoder.next(prompt, caches);
  const prefilled = performance.now();
  const made = [likeliest(logits)];
  for (let step = 1; step < count; step++) made.push(likeliest(caches.length === 0 ? await decoder.next([...prompt, ...made]) : await decoder.next(made.slice(-1), caches)));
  const ended = performance.now();

  await runtime.idle();
  const { bytes, peakBytes } = runtime.memory();
  const megabytes = (size: number): string => `${(size / 2 ** 20).toFixed(1)} MiB`;
  console.log(`${name}, cache ${kind}: prefill ${((promptLength * 1000) / (prefilled - started)).toFixed(1)} tokens/s, generation ${(((count - 1) * 1000) / (ended - prefilled)).toFixed(1)} tokens/s`);
  console.log(`weights ${megabytes(weights)}, caches and what kernels keep ${megabytes(bytes - weights)}, most at once ${megabytes(peakBytes)}`);
  await decoder.dispose();
  await backend.dispose();
}
