export { blocksOfMask } from './patterns/mask.ts';
export type { PatternPlane } from './patterns/mask.ts';
