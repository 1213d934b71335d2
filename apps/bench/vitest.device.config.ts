import { unit } from '@heed/vitest-config';
import { provideAdapter } from '../../tooling/checks/src/webgpu-adapter.ts';

// Tests run in processes that inherit what finds a device, and that it is meant.
provideAdapter();
process.env.HEED_ON_DEVICE = '1';

const shared = unit();

/** The peers that need a device. */
export default { ...shared, test: { ...shared.test, include: ['test/peers.test.ts'], testTimeout: 120_000 } };
