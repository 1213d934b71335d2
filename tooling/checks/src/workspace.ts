import { readdirSync, existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** The fields of a package.json that checks read. */
export interface Manifest {
  readonly name: string;
  readonly private?: boolean;
  readonly scripts?: Readonly<Record<string, string>>;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
  readonly peerDependencies?: Readonly<Record<string, string>>;
  readonly peerDependenciesMeta?: Readonly<Record<string, { readonly optional?: boolean }>>;
}

export interface WorkspacePackage {
  /** `packages`, `apps`, `examples` or `tooling`. */
  readonly group: string;
  /** Absolute path. */
  readonly folder: string;
  readonly manifest: Manifest;
}

/** Absolute path of the repository. */
export const root: string = join(import.meta.dirname, '../../..');

export function readManifest(folder: string): Manifest {
  return JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Manifest;
}

/** Every package of the workspace, in alphabetical order of its folder within each group. */
export function workspacePackages(): readonly WorkspacePackage[] {
  return ['packages', 'apps', 'examples', 'tooling'].flatMap((group) =>
    readdirSync(join(root, group))
      .sort()
      .map((name) => join(root, group, name))
      .filter((folder) => existsSync(join(folder, 'package.json')))
      .map((folder) => ({ group, folder, manifest: readManifest(folder) })),
  );
}

/** The packages that are published. */
export function publicPackages(): readonly WorkspacePackage[] {
  return workspacePackages().filter(({ group, manifest }) => group === 'packages' && manifest.private !== true);
}
