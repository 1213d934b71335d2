import { cpSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { apiPages, type ApiPage } from './api-pages.ts';

/** Packages whose exports are documented, in the order in which they are read. */
const packages = ['core', 'cpu', 'webgpu', 'sparse', 'linear', 'layers', 'conformance', 'runtime-wasm', 'runtime-webgpu'] as const;

/** Puts the documents and the pages of every entry point into one folder, from which the site is made. */
export function collectPages(root: string, target: string): readonly ApiPage[] {
  rmSync(target, { recursive: true, force: true });
  cpSync(join(root, 'docs'), target, { recursive: true });
  const pages = apiPages(root, packages);
  mkdirSync(join(target, 'api'));
  for (const { name, text } of pages) writeFileSync(join(target, 'api', `${name}.md`), text);
  return pages;
}
