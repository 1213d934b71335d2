import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'vite';
import { conclude, type Finding } from '../../../tooling/checks/src/counts.ts';
import { launchChromium } from '../../../tooling/checks/src/chromium.ts';
import { accessible } from './accessible.ts';
import { badInput } from './bad-input.ts';
import { numbers } from './numbers.ts';
import { serveSite } from '../../../tooling/checks/src/site-server.ts';
import { speed } from './speed.ts';
import type { Setting } from './setting.ts';

/**
 * Opens the built explorer in Chromium: its numbers against the reference, axe's rules, what it weighs and how fast it answers, and what it says to bad input.
 * The lane that counts are left for, and which checks: `node browser/main.ts unit-alone speed`; all unless named.
 */
const folder = join(import.meta.dirname, '..');
const outDir = mkdtempSync(join(tmpdir(), 'heed-explorer-'));
const [lane = 'browser', ...asked] = process.argv.slice(2);
const findings: Finding[] = [];
try {
  await build({ root: folder, configFile: join(folder, 'vite.config.ts'), logLevel: 'warn', build: { outDir, emptyOutDir: true } });
  // Below a path, as a project's page of a host is.
  const [server, plain, browser] = await Promise.all([serveSite(outDir, '/below/here/', true), serveSite(outDir, '/', false), launchChromium(['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader'])]);
  const setting: Setting = { browser, folder: outDir, address: server.address, plainAddress: plain.address };
  try {
    // Speed first, alone and in a browser that has seen nothing yet.
    const checks = { speed, numbers, accessible, badInput };
    for (const [name, check] of Object.entries(checks)) if (asked.length === 0 || asked.includes(name)) findings.push(...(await check(setting)));
  } finally {
    await browser.close();
    server.close();
    plain.close();
  }
} catch (error) {
  findings.push({ check: 'the explorer opens', problems: [error instanceof Error ? (error.stack ?? error.message) : String(error)] });
} finally {
  rmSync(outDir, { recursive: true, force: true });
}
conclude(folder, lane, findings);
