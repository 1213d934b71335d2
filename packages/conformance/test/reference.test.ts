import { createReferenceBackend } from '@heed/core/reference';
import { describe, test } from 'vitest';
import { conformance } from '../src/index.ts';

// The suite as a test runner sees it, on a part of it: the constants, which come from papers. All of it is a lane of its own.
conformance({ describe, test }, () => createReferenceBackend(), { refusals: 'forbidden', filters: ['golden'], examples: 0 });
