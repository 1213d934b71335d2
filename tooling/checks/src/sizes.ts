import { build } from 'esbuild';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

/** The most an entry point may weigh, in bytes: everything it brings but other packages, minified and gzipped. */
export const budgets: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  '@heed/core': { '.': 20_000, './compute': 36_000 },
};

interface Exports {
  readonly exports: Readonly<Record<string, { readonly default: string } | string>>;
}

/** Bytes of an entry point of the unpacked package in `folder`. */
export async function sizeOf(folder: string, entry: string): Promise<number> {
  const { exports } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Exports;
  const target = exports[entry];
  if (typeof target !== 'object') throw new Error(`${folder} has no entry point ${entry}`);
  const { outputFiles } = await build({
    entryPoints: [join(folder, target.default)],
    bundle: true,
    minify: true,
    write: false,
    format: 'esm',
    platform: 'neutral',
    external: ['@heed/*', 'node:*'],
    logLevel: 'silent',
  });
  return outputFiles.reduce((sum, { contents }) => sum + gzipSync(contents, { level: 9 }).length, 0);
}
