import { join } from 'node:path';
import { defaultClientConditions, defineConfig } from 'vite';

// Shared memory takes a page that is isolated from other origins.
const headers = { 'cross-origin-opener-policy': 'same-origin', 'cross-origin-embedder-policy': 'require-corp' };

export default defineConfig({
  root: join(import.meta.dirname, 'page'),
  resolve: {
    // Packages of the workspace from their source.
    conditions: ['@heed/source', ...defaultClientConditions],
    alias: { linkedom: join(import.meta.dirname, 'page/document.ts') },
  },
  preview: { host: '127.0.0.1', headers },
  build: { outDir: join(import.meta.dirname, 'dist'), emptyOutDir: true, target: 'es2023', chunkSizeWarningLimit: Infinity },
});
