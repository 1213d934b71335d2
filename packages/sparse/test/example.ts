import { attention, causal, tensor } from '@heed/core';
import { createCpuBackend } from '@heed/cpu';
import { gatherQueries, selectMoba, slidingWindow, sparse } from '@heed/sparse';

const backend = sparse(await createCpuBackend());
const rows = tensor(new Float32Array(8 * 2048 * 64), [1, 8, 2048, 64]);

// A pattern: its mask says what is allowed, its list where that is.
const near = slidingWindow({ left: 255, right: 0 });
const windowed = await backend.prepare({ variant: attention({ masking: near.masking }), queryDim: 64, keyDim: 64, valueDim: 64 });
const blocks = near.blocks({ queryLength: 2048, keyLength: 2048, blockQuery: 32, blockKey: 16 });
const first = await windowed.run({ query: rows, key: rows, value: rows, blocks });

// A selector: a choice that can be read, saved and given back, then attention over it.
const dense = await backend.prepare({ variant: attention({ masking: causal() }), queryDim: 64, keyDim: 64, valueDim: 64 });
const choice = await selectMoba(backend.runtime, { query: rows, key: rows }, { blockLength: 256, count: 3 });
const second = await dense.run({ query: rows, key: rows, value: rows, blocks: gatherQueries(choice, { causalOffset: 0 }) });

console.log(first.output.shape, second.output.shape); // [ 1, 8, 2048, 64 ] [ 1, 8, 2048, 64 ]
await backend.runtime.dispose();
