// The options of the CPU backend and what it offers beyond the contract have types.
import { type Backend, attention, tensor } from '@heed/core';
import { type CpuBackend, type CpuBackendOptions, createCpuBackend } from '@heed/cpu';

const options: CpuBackendOptions = { threads: 2, vectors: 'portable' };
const cpu: CpuBackend = await createCpuBackend(options);
const backend: Backend = cpu;
const kernel = await backend.prepare({ variant: attention(), queryDim: 1, keyDim: 1, valueDim: 1 });
const one = cpu.runtime.upload(tensor([1], [1, 1, 1, 1]));
const { output } = await kernel.run({ query: one, key: one, value: one });
const read = await cpu.runtime.read(output);
await cpu.dispose();

// @ts-expect-error: there are two kinds of vectors
const misuse = (): unknown => createCpuBackend({ vectors: 'narrow' });
console.log(typeof misuse === 'function' && read.view()[0] === 1 ? 'right' : 'wrong');
