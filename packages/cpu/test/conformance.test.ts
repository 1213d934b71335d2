import { describe, test } from 'vitest';
import { conformance } from '@heed/conformance';
import { createCpuBackend } from '../src/index.ts';

conformance({ describe, test }, () => createCpuBackend({ threads: 2 }));
