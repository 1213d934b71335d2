import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Where Debian's Chromium describes the software adapter that it brings. */
const swiftShader = '/usr/lib/chromium/vk_swiftshader_icd.json';
const loaders = ['/usr/lib/x86_64-linux-gnu/libvulkan.so.1', '/usr/lib/aarch64-linux-gnu/libvulkan.so.1', '/usr/lib/libvulkan.so.1', '/usr/lib64/libvulkan.so.1'];
const packages = ['libvulkan1', 'chromium'];
const installation = `apt-get update && apt-get install -y ${packages.join(' ')}`;

/**
 * Makes WebGPU find an adapter in Node on Linux: the driver that VK_ICD_FILENAMES names, else SwiftShader, installed where that is allowed. A lane that promises
 * WebGPU fails without one.
 * @throws Error with the line that installs it
 */
export function provideAdapter(): void {
  if (process.platform !== 'linux') return;
  // The loader asks for it, and complains where it is missing.
  process.env.XDG_RUNTIME_DIR ??= tmpdir();
  if (process.env.VK_ICD_FILENAMES !== undefined) return;
  if (!isInstalled()) install();
  if (!isInstalled()) throw new Error(`WebGPU has no adapter on this machine. Install one: ${installation}`);
  process.env.VK_ICD_FILENAMES = swiftShader;
}

function isInstalled(): boolean {
  return existsSync(swiftShader) && loaders.some((loader) => existsSync(loader));
}

/** With root's rights and apt-get; what it prints belongs to no report. */
function install(): void {
  if (process.getuid?.() !== 0 || spawnSync('apt-get', ['--version']).status !== 0) return;
  const stdio = ['ignore', 2, 2] as ['ignore', number, number];
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const options = ['-y', '-q', '-o', 'DPkg::Lock::Timeout=300'];
  spawnSync('apt-get', [...options, 'update'], { stdio, env });
  spawnSync('apt-get', [...options, 'install', ...packages], { stdio, env });
}

/**
 * What the results of a WebGPU lane depend on beside the sources: equal for equal drivers on one machine. Null where that cannot be told, and lanes run anew.
 */
export function adapterIdentity(): string | null {
  if (process.platform !== 'linux' || !isInstalled()) return null;
  const folders = ['/usr/lib/chromium', '/usr/share/vulkan/icd.d', '/etc/vulkan/icd.d', '/dev/dri'].filter((folder) => existsSync(folder));
  const files = folders.flatMap((folder) => readdirSync(folder).sort().map((name) => join(folder, name)));
  const stamps = [...files, ...loaders].filter((file) => existsSync(file)).map((file) => {
    const { size, mtimeMs } = statSync(file);
    return `${file} ${size} ${mtimeMs}`;
  });
  return [process.env.VK_ICD_FILENAMES ?? '', ...stamps].join('\n');
}
