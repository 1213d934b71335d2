import { library } from '@heed/tsup-config';

export default library(['src/index.ts', 'src/wasm/index.ts', 'src/webgpu/index.ts']);
