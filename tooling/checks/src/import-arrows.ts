import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { arrowProblems } from './arrows.ts';
import { conclude } from './counts.ts';
import { publicPackages, root } from './workspace.ts';

/** `packages/<name>/src/**` as path below the repository → text. */
function sourcesOf(folder: string): ReadonlyMap<string, string> {
  const source = join(folder, 'src');
  const files = readdirSync(source, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts'));
  return new Map(files.map((name) => [join(source, name).slice(root.length + 1).replaceAll('\\', '/'), readFileSync(join(source, name), 'utf8')]));
}

conclude(
  join(import.meta.dirname, '..'),
  'import-arrows',
  publicPackages().map(({ folder, manifest }) => ({
    check: `${manifest.name}: import arrows`,
    problems: existsSync(join(folder, 'src')) ? arrowProblems(sourcesOf(folder)) : ['has no src'],
  })),
);
