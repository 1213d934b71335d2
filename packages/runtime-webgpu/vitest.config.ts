import { unit } from '@heed/vitest-config';
import { provideAdapter } from '../../tooling/checks/src/webgpu-adapter.ts';

// Tests run on a device, in processes that inherit what finds one.
provideAdapter();

export default unit();
