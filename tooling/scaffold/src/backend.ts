import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Names } from './names.ts';
import { fill } from './names.ts';

interface Manifest {
  devDependencies: Record<string, string>;
}

interface References {
  references: { path: string }[];
}

/**
 * Adds a package with a backend that computes softmax attention in plain loops and refuses everything else, its tests, and its lane in the conformance suite.
 *
 * @returns the files written or changed, relative to the root
 * @throws Error when the package exists
 */
export function addBackend(root: string, names: Names): readonly string[] {
  const folder = `packages/${names.kebab}`;
  const templates = join(import.meta.dirname, '../templates/backend');
  if (existsSync(join(root, folder))) throw new Error(`${folder} exists already. Choose another name.`);
  // A package my-backend exports createMyBackend, as a package my does.
  const named = { ...names, pascal: names.pascal.replace(/(?<=.)Backend$/, '') };
  const files = readdirSync(templates, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.template'));
  const written = files.map((file) => {
    const path = file === 'lane.ts.template' ? `tooling/checks/backends/${names.kebab}.ts` : join(folder, file.slice(0, -'.template'.length));
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), fill(readFileSync(join(templates, file), 'utf8'), named));
    return path;
  });
  changeJson(join(root, 'tsconfig.json'), (settings: References) => settings.references.push({ path: folder }));
  changeJson(join(root, 'tooling/checks/package.json'), (manifest: Manifest) => {
    manifest.devDependencies[`@heed/${names.kebab}`] = 'workspace:*';
    manifest.devDependencies = Object.fromEntries(Object.entries(manifest.devDependencies).sort(([a], [b]) => a.localeCompare(b)));
  });
  return [...written, 'tsconfig.json', 'tooling/checks/package.json'];
}

function changeJson(path: string, change: (json: never) => void): void {
  const json = JSON.parse(readFileSync(path, 'utf8')) as never;
  change(json);
  writeFileSync(path, `${JSON.stringify(json, null, 2)}\n`);
}
