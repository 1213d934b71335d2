import { parseArgs } from 'node:util';
import { createCpuBackend } from '@heed/cpu';
import { cacheKinds, type CacheKind } from './caches.ts';
import { Decoder, likeliest } from './decoder.ts';
import { shapes, type ShapeName } from './shapes.ts';

const { values } = parseArgs({ options: { shape: { type: 'string', default: 'gpt2' }, cache: { type: 'string', default: 'contiguous' }, prompt: { type: 'string', default: '128' }, tokens: { type: 'string', default: '32' } } });
if (!(values.shape in shapes)) throw new Error(`No shape '${values.shape}'. There are ${Object.keys(shapes).join(', ')}.`);
if (values.cache !== 'none' && !(values.cache in cacheKinds)) throw new Error(`No cache '${values.cache}'. There are none, ${Object.keys(cacheKinds).join(', ')}.`);
const [promptLength, count] = [Number(values.prompt), Number(values.tokens)];
const backend = await createCpuBackend();
const decoder = await Decoder.create(backend, shapes[values.shape as ShapeName]);
const weights = backend.runtime.memory().bytes;
const caches = values.cache === 'none' ? [] : decoder.cacheShapes.map((shape) => cacheKinds[values.cache as CacheKind](shape, promptLength + count));
const { vocabulary } = decoder.shape;
const tokens = Array.from({ length: promptLength }, (_, index) => (index * 7919 + 13) % vocabulary);

const started = performance.now();
let logits = await decoder.next(tokens, caches);
const prefilled = performance.now();
const made: number[] = [];
for (let step = 0; step < count; step++) {
  const token = likeliest(logits);
  made.push(token);
  logits = caches.length === 0 ? await decoder.next([...tokens, ...made]) : await decoder.next([token], caches);
}
const ended = performance.now();
const megabytes = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
console.log(`${values.shape}, cache ${values.cache}: prefill ${((promptLength * 1000) / (prefilled - started)).toFixed(1)} tokens/s, generation ${((count * 1000) / (ended - prefilled)).toFixed(1)} tokens/s`);
console.log(`weights ${megabytes(weights)}, caches ${megabytes(backend.runtime.memory().bytes - weights)}, most at once ${megabytes(backend.runtime.memory().peakBytes)}`);
await decoder.dispose();
await backend.dispose();
