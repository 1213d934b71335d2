export { sparse, SparseBackend } from './backend.ts';
export type { SparseOptions } from './backend.ts';
export type { ListingOptions } from './listing.ts';
export { blocksOfMask } from './patterns/mask.ts';
export type { PatternPlane } from './patterns/mask.ts';
