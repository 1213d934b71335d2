import react from '@vitejs/plugin-react';
import { defineConfig, type Plugin } from 'vite';

/** Threads need a page that is cross-origin isolated; where it is not, one thread computes. */
const isolation = { 'Cross-Origin-Opener-Policy': 'same-origin', 'Cross-Origin-Embedder-Policy': 'require-corp' };

/** What the built page may do: its own scripts and WebAssembly, no text run as code. Plots bring styles of their own. */
const policy = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; worker-src 'self' blob:; object-src 'none'; base-uri 'none'";

const contentSecurityPolicy: Plugin = {
  name: 'content-security-policy',
  apply: 'build',
  transformIndexHtml: () => [{ tag: 'meta', attrs: { 'http-equiv': 'Content-Security-Policy', content: policy }, injectTo: 'head-prepend' }],
};

export default defineConfig({
  // Served from any host and any path below it.
  base: './',
  plugins: [react(), contentSecurityPolicy],
  resolve: { conditions: ['@heed/source', 'module', 'browser', 'development|production'] },
  build: { target: 'es2023', outDir: 'dist', emptyOutDir: true },
  worker: { format: 'es' },
  server: { headers: isolation },
  preview: { headers: isolation },
});
