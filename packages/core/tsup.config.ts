import { library } from '@heed/tsup-config';

export default library(['src/index.ts', 'src/compute.ts', 'src/reference/index.ts']);
