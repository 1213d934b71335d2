import { library } from '@heed/tsup-config';

export default library(['src/index.ts', 'src/graph/wasm/index.ts', 'src/graph/webgpu/index.ts']);
