import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { chromium, type Browser, type LaunchOptions } from 'playwright-core';

/** For all pages: no sandbox, which root is refused and containers lack, and no traffic of the browser's own. */
const switches: readonly string[] = ['--no-sandbox', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-quic', '--no-first-run'];

const packages = ['chromium'];
const installation = `apt-get update && apt-get install -y ${packages.join(' ')}`;

/**
 * Starts the Chromium of this machine, without a window. Debian's is installed where that may be done.
 * @param further switches besides those that every page needs
 * @throws Error with the line that installs Chromium, where there is none
 */
export async function launchChromium(further: readonly string[] = []): Promise<Browser> {
  const place = findChromium() ?? installChromium();
  return chromium.launch({ ...place, headless: true, args: ['--headless=new', ...switches, ...further] });
}

/** HEED_CHROMIUM, a program on the PATH, or on macOS and Windows wherever Chrome is. */
function findChromium(): Pick<LaunchOptions, 'executablePath' | 'channel'> | undefined {
  const given = process.env.HEED_CHROMIUM;
  if (given !== undefined) return { executablePath: given };
  const folders = (process.env.PATH ?? '').split(delimiter);
  const names = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'];
  const executablePath = names.flatMap((name) => folders.map((folder) => join(folder, name))).find((path) => existsSync(path));
  if (executablePath !== undefined) return { executablePath };
  return process.platform === 'linux' ? undefined : { channel: 'chrome' };
}

/** Path and version of the Chromium that lanes start; null where there is none yet, or it is not found by its path. */
export function chromiumIdentity(): string | null {
  const path = findChromium()?.executablePath;
  if (path === undefined) return null;
  const { status, stdout } = spawnSync(path, ['--version'], { encoding: 'utf8' });
  return status === 0 ? `${path} ${stdout.trim()}` : null;
}

function installChromium(): Pick<LaunchOptions, 'executablePath'> {
  if (process.getuid?.() === 0 && spawnSync('apt-get', ['--version']).status === 0) {
    console.log(`No Chromium here: ${installation}`);
    const options = ['-y', '-q', '-o', 'DPkg::Lock::Timeout=300'];
    const environment = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
    spawnSync('apt-get', [...options, 'update'], { stdio: 'inherit', env: environment });
    spawnSync('apt-get', [...options, 'install', ...packages], { stdio: 'inherit', env: environment });
  }
  const found = findChromium();
  if (found?.executablePath === undefined) throw new Error(`This lane needs Chromium. On Debian: sudo sh -c '${installation}'`);
  return { executablePath: found.executablePath };
}
