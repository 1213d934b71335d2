import { createLinearBackend, type LinearBackend } from '@heed/linear/webgpu';
import { provideAdapter } from '../src/webgpu-adapter.ts';

/** Dawn in Node, on a GPU where there is one, else on SwiftShader. @throws Error where there is neither */
export function createBackend(): Promise<LinearBackend> {
  provideAdapter();
  return createLinearBackend();
}
