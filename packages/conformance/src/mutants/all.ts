import { mannersMutants } from './manners.ts';
import { maskMutants } from './masks.ts';
import { mergingMutants } from './merging.ts';
import type { Mutant } from './mutant.ts';
import { positionMutants } from './positions.ts';
import { precisionMutants } from './precision.ts';
import { recurrenceMutants } from './recurrence.ts';
import { softmaxMutants } from './softmax.ts';

/** Every backend that is wrong on purpose. */
export const mutants: readonly Mutant[] = [...positionMutants, ...maskMutants, ...softmaxMutants, ...precisionMutants, ...mergingMutants, ...recurrenceMutants, ...mannersMutants];
