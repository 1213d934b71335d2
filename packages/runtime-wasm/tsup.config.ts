import { library } from '@heed/tsup-config';

export default library({ index: 'src/index.ts', worker: 'src/threads/worker.ts' });
