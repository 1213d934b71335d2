import { readdirSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import { run, type Finished } from './process.ts';

/** What runs JavaScript besides Node, and besides a browser. */
export type OtherRuntime = 'deno' | 'bun';

const modules = join(import.meta.dirname, '../node_modules');

/**
 * Runs a file of JavaScript or TypeScript to its end.
 * @param flags go to the runtime, before the file
 */
export function runIn(runtime: OtherRuntime, file: string, args: readonly string[], folder: string, flags: readonly string[] = []): Finished {
  switch (runtime) {
    case 'deno': {
      const allowed = ['--no-remote', '--allow-read', '--allow-write', '--allow-env', '--allow-sys'];
      return run('deno', ['run', ...allowed, ...flags, file, ...args], folder, { DENO_NO_UPDATE_CHECK: '1', DENO_DIR: join(modules, '.cache/deno') });
    }
    case 'bun':
      return run(bun(), ['run', '--no-install', ...flags, file, ...args], folder);
  }
}

/**
 * Bun itself, in the package of this platform that `bun` depends on. What `bun` offers as its command only works after its
 * install script, which may reach for the network.
 */
function bun(): string {
  const platforms = join(realpathSync(join(modules, 'bun')), '../@oven');
  const [platform] = readdirSync(platforms).filter((name) => name.startsWith('bun-'));
  if (platform === undefined) throw new Error(`no Bun for ${process.platform} ${process.arch} in ${platforms}`);
  return join(platforms, platform, 'bin', process.platform === 'win32' ? 'bun.exe' : 'bun');
}
