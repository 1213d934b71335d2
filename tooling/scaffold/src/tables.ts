import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

/**
 * Writes the generated tables of the documents anew, as `npx -y pnpm@12 tables` does.
 *
 * @returns the documents that changed, relative to the root
 * @throws Error when the tables cannot be made
 */
export function writeTables(root: string): readonly string[] {
  const { status, stdout, stderr, error } = spawnSync(process.execPath, ['--conditions=@heed/source', join(root, 'tooling/checks/src/tables.ts')], { cwd: root, encoding: 'utf8' });
  if (error !== undefined || status !== 0) throw new Error(`The files are there, but the tables of the documents are not written. Run: npx -y pnpm@12 tables\n${error?.message ?? stderr}`);
  return [...stdout.matchAll(/^(\S+) written$/gm)].map(([, path = '']) => path);
}
