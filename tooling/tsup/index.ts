import type { Options } from 'tsup';

/** `new URL('./file.ts', import.meta.url)`: how source finds a file that runs on its own, such as a worker. */
const fileUrl = /(new URL\(\s*(['"])\.{1,2}\/[^'"]+)\.ts(\2,\s*import\.meta\.url\s*\))/g;

/**
 * Build options of a package: ES modules with declarations and source maps, code shared by the entries in one place.
 *
 * Entries keep their path below `src`, except where `entry` names the output itself. A file that is reached by
 * `new URL('./file.ts', import.meta.url)` has to be an entry whose output lies next to the code that names it; its
 * extension is changed to `.js` here, since no bundler looks into that expression.
 */
export function library(entry: readonly string[] | Readonly<Record<string, string>> = ['src/index.ts']): Options {
  return {
    entry: entry as string[] | Record<string, string>,
    format: 'esm',
    target: 'es2023',
    platform: 'neutral',
    dts: { compilerOptions: { composite: false } },
    sourcemap: true,
    splitting: true,
    treeshake: true,
    clean: true,
    silent: true,
    plugins: [
      {
        name: 'file-urls',
        renderChunk: (code) => ({ code: code.replace(fileUrl, '$1.js$3') }),
      },
    ],
  };
}
