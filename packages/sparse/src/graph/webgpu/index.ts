/** Attention over the edges of a graph, on the WebGPU runtime. */
export { createGraphBackend, GraphBackend } from './backend.ts';
export type { GraphBackendOptions } from './backend.ts';
