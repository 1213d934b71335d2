import type { Options } from 'tsup';

/** `new URL('./folder/name.ts', import.meta.url)`: how source finds a file that runs on its own, such as a worker. */
const fileUrl = /(new URL\(\s*(['"]))\.{1,2}\/(?:[\w.-]+\/)*([\w-]+)\.ts(\2,\s*import\.meta\.url\s*\))/g;

/**
 * Build options of a package: ES modules with declarations and source maps, code shared by the entries in one place.
 *
 * Entries keep their path below `src`, except where `entry` names the output. Bundling puts all code that is not an entry of
 * its own into the root of `dist`, and bundlers leave a `new URL` with the path of a source file as it is. So a file that is
 * found that way has to be an entry by its bare name, and what finds it there is `new URL('./name.js', import.meta.url)`,
 * which consumers' bundlers know how to follow.
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
        renderChunk: (code) => ({ code: code.replace(fileUrl, '$1./$3.js$4') }),
      },
    ],
  };
}
