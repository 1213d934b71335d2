import { createContiguousCache, createPagePool, createPagedCache, createPrefixedCache, createQuantisedCache, createRingCache, type CacheShape, type KeyValueCache } from '@heed/layers';

/** Kinds of caches by name, each for one layer and one sequence of at most `context` tokens. */
export const cacheKinds = {
  contiguous: (shape: CacheShape): KeyValueCache => createContiguousCache({ ...shape, batch: 1 }),
  ring: (shape: CacheShape, context: number): KeyValueCache => createRingCache({ ...shape, batch: 1, left: context, chunk: 64 }),
  paged: (shape: CacheShape, context: number): KeyValueCache => createPagedCache({ pool: createPagePool({ ...shape, pages: Math.ceil(context / 16) }) }),
  prefixed: (shape: CacheShape): KeyValueCache => createPrefixedCache({ prefix: createContiguousCache({ ...shape, batch: 1 }), suffix: createContiguousCache({ ...shape, batch: 1 }) }),
  quantised: (shape: CacheShape): KeyValueCache => createQuantisedCache({ ...shape, batch: 1 }),
} as const;

export type CacheKind = keyof typeof cacheKinds;
