import { existsSync, readFileSync } from 'node:fs';
import { isDeepStrictEqual } from 'node:util';
import { join } from 'node:path';
import { conclude, type Finding } from './counts.ts';
import { publicPackages, readManifest, root, workspacePackages, type WorkspacePackage } from './workspace.ts';

/** What every package.json has in common, so that a new package cannot be half set up. */

type Entries = Readonly<Record<string, string | Readonly<Record<string, string>>>>;

interface PublicManifest {
  readonly type?: string;
  readonly sideEffects?: boolean;
  readonly files?: readonly string[];
  readonly engines?: Readonly<Record<string, string>>;
  readonly exports?: Entries;
  readonly publishConfig?: { readonly access?: string; readonly provenance?: boolean; readonly exports?: Entries };
}

const here = join(import.meta.dirname, '..');

/** Exports as they are published: without the condition that leads to the source. */
function published(exports: Entries): Entries {
  return Object.fromEntries(
    Object.entries(exports).map(([entry, target]) => [
      entry,
      typeof target === 'string' ? target : Object.fromEntries(Object.entries(target).filter(([condition]) => condition !== '@heed/source')),
    ]),
  );
}

function publicProblems({ folder, manifest }: WorkspacePackage): readonly string[] {
  const problems: string[] = [];
  const expect = (holds: boolean, problem: string): void => {
    if (!holds) problems.push(problem);
  };
  const { type, sideEffects, files, engines, exports = {}, publishConfig } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as PublicManifest;
  expect(type === 'module', '"type" is not "module"');
  expect(sideEffects === false, '"sideEffects" is not false');
  expect(isDeepStrictEqual(files, ['dist']), '"files" is not ["dist"]');
  expect(engines?.node === '>=20', '"engines.node" is not ">=20"');
  expect(publishConfig?.access === 'public' && publishConfig.provenance === true, '"publishConfig" lacks access public or provenance');
  expect(isDeepStrictEqual(publishConfig?.exports, published(exports)), '"publishConfig.exports" is not "exports" without @heed/source');
  for (const [entry, target] of Object.entries(exports)) {
    if (typeof target === 'string') continue;
    const source = target['@heed/source'];
    expect(source !== undefined && existsSync(join(folder, source)), `"exports" ${entry}: its @heed/source is missing or does not exist`);
  }
  const { scripts = {} } = manifest;
  for (const script of ['build', 'types', 'lint', 'tarball']) expect(scripts[script] !== undefined, `no script "${script}"`);
  expect((scripts.unit ?? scripts['unit-alone']) !== undefined, 'no script "unit" or "unit-alone"');
  for (const name of Object.keys({ ...manifest.dependencies, ...manifest.peerDependencies })) {
    // An optional peer stands in for what a platform lacks: whoever runs there installs it.
    if (manifest.peerDependenciesMeta?.[name]?.optional === true) continue;
    expect(name.startsWith('@heed/'), `depends on ${name} at run time; packages depend on @heed/* only`);
  }
  if (manifest.name !== '@heed/core') expect(manifest.peerDependencies?.['@heed/core'] !== undefined, '@heed/core is not a peer dependency');
  return problems;
}

/** Versions stand in the catalog of the workspace and nowhere else. */
function versionProblems({ manifest }: WorkspacePackage): readonly string[] {
  return Object.entries({ ...manifest.dependencies, ...manifest.devDependencies })
    .filter(([, version]) => version !== 'catalog:' && !version.startsWith('workspace:'))
    .map(([name, version]) => `${name} is ${version}; its version belongs in pnpm-workspace.yaml`);
}

/** Lanes over the whole repository are kept by the hash of what this package depends on: that has to be all of it. */
function unknownToChecks(): readonly string[] {
  const { name: own, devDependencies = {} } = readManifest(here);
  return workspacePackages()
    .map(({ manifest }) => manifest.name)
    .filter((name) => name !== own && devDependencies[name] === undefined)
    .map((name) => `${name} is not among the devDependencies of ${own}`);
}

function missingReferences(): readonly string[] {
  const { references } = JSON.parse(readFileSync(join(root, 'tsconfig.json'), 'utf8')) as { readonly references: readonly { readonly path: string }[] };
  const known = new Set(references.map(({ path }) => join(root, path)));
  return workspacePackages()
    .filter(({ folder }) => !known.has(folder))
    .map(({ manifest }) => `${manifest.name} is not among the references of tsconfig.json`);
}

const findings: readonly Finding[] = [
  ...publicPackages().map((entry) => ({ check: `${entry.manifest.name}: package.json`, problems: publicProblems(entry) })),
  ...workspacePackages().map((entry) => ({ check: `${entry.manifest.name}: versions`, problems: versionProblems(entry) })),
  { check: 'every package is known to the checks', problems: unknownToChecks() },
  { check: 'every package is referenced', problems: missingReferences() },
];
conclude(here, 'packages', findings);
