import type { Browser, Page } from 'playwright-core';
import type { Finding } from '../../../tooling/checks/src/counts.ts';

/** Where the built page is served, and what opens it. */
export interface Setting {
  readonly browser: Browser;
  /** The built files. */
  readonly folder: string;
  /** Cross-origin isolated, below a path. */
  readonly address: string;
  /** Not isolated, at the root. */
  readonly plainAddress: string;
}

/** Runs one check; what it throws is what is wrong. */
export async function finding(check: string, run: () => Promise<readonly string[]>): Promise<Finding> {
  try {
    return { check, problems: await run() };
  } catch (error) {
    return { check, problems: [error instanceof Error ? error.message : String(error)] };
  }
}

/** A page at an address, with everything that it complains about. */
export async function openPage({ browser }: Setting, address: string, options: Parameters<Browser['newPage']>[0] = {}, before: (page: Page) => Promise<void> = () => Promise.resolve()): Promise<{ readonly page: Page; readonly complaints: readonly string[] }> {
  const page = await browser.newPage({ viewport: { width: 1360, height: 900 }, ...options });
  const complaints: string[] = [];
  page.on('pageerror', (error) => complaints.push(error.message));
  page.on('console', (message) => {
    if (message.type() === 'error') complaints.push(message.text());
  });
  await before(page);
  await page.goto(address);
  return { page, complaints };
}

/** Waits until nothing is being computed. */
export async function settled(page: Page): Promise<void> {
  await page.waitForSelector('main h2 ~ :not([role=status])', { timeout: 30_000, state: 'attached' });
  await page.waitForFunction(() => document.querySelector('main [role=status]') === null, undefined, { timeout: 30_000 });
}
