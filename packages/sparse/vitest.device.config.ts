import { device } from '@heed/vitest-config';
import { provideAdapter } from '../../tooling/checks/src/webgpu-adapter.ts';

// Tests run in processes that inherit what finds a device.
provideAdapter();

export default device();
