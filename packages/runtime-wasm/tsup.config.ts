import { library } from '@heed/tsup-config';

export default {
  ...library({ index: 'src/index.ts', worker: 'src/threads/worker.ts' }),
  // The worker stands alone: a bundler that takes its file for an asset copies it, and what it imports would stay behind.
  splitting: false,
};
