import { createReferenceBackend } from '@heed/core/reference';
import { describe, test } from 'vitest';
import { conformance } from '../src/index.ts';

// The reference against itself and against the formulas, constants and laws that do not come from it. It may refuse nothing but what its capabilities leave out.
conformance({ describe, test }, () => createReferenceBackend(), { refusals: 'forbidden', examples: 20 });
