import type { Page } from 'playwright-core';
import { join } from 'node:path';
import { build, preview } from 'vite';
import { launchChromium } from './chromium.ts';
import { conclude, type Finding } from './counts.ts';
import { root } from './workspace.ts';

/**
 * Visits the bench's page in Chromium, once on the software device that Chromium brings and once with no device at all: it must measure what can be measured,
 * say at its place what cannot, and fit a phone. A lane of the package it is run in.
 */

/** What the page's JSON holds, as far as it is read here. */
interface Measured {
  readonly outcomes: readonly { readonly competitor: string; readonly timing: object | null; readonly refusal: string | null; readonly verdict: { readonly passed: boolean } | null }[];
  readonly limits: Readonly<Record<string, { readonly gigaflopsPerSecond: number }>>;
}

const configFile = join(root, 'apps/bench/vite.config.ts');
const patience = 120_000;
const others = ['onnxruntime-web', 'tfjs', 'jax-js'];

async function measure(page: Page, origin: string): Promise<Measured> {
  const competitors = ['cpu', 'webgpu', ...others].map((name) => `competitor=${name}`).join('&');
  await page.goto(`${origin}/?suite=webgpu&only=small&seconds=3&${competitors}&run=1`);
  await page.waitForSelector('html[data-state=done], html[data-state=failed]', { timeout: patience });
  const said = await page.locator('output').textContent();
  if ((await page.locator('html').getAttribute('data-state')) !== 'done') throw new Error(`The page says: ${said ?? ''}`);
  // The link that saves the numbers.
  const text = await page.evaluate<string>("fetch(document.querySelector('#json').href).then((answer) => answer.text())");
  return JSON.parse(text) as Measured;
}

/** What is wrong with the page's look on a desk and a phone, light and dark. */
async function looks(page: Page): Promise<readonly string[]> {
  const problems: string[] = [];
  for (const colorScheme of ['light', 'dark'] as const) {
    for (const width of [1280, 390]) {
      await page.emulateMedia({ colorScheme });
      await page.setViewportSize({ width, height: 800 });
      const wide = await page.evaluate<number>('document.documentElement.scrollWidth');
      if (wide > width) problems.push(`${colorScheme}, ${width} wide: the page is ${wide} wide`);
    }
  }
  return problems;
}

async function visit(origin: string, device: 'SwiftShader' | 'none'): Promise<readonly Finding[]> {
  const browser = await launchChromium(device === 'none' ? [] : ['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader']);
  try {
    const page = await browser.newPage();
    const errors: string[] = [];
    page.on('pageerror', (error) => errors.push(error.message));
    const { outcomes, limits } = await measure(page, origin);
    const problemsOf = (names: readonly string[], timed: boolean): readonly string[] =>
      names.flatMap((name) => {
        const outcome = outcomes.find(({ competitor }) => competitor === name);
        const right = (outcome?.timing ?? null) !== null && outcome?.verdict?.passed === true;
        if (timed) return right ? [] : [`${name}: ${outcome?.refusal ?? 'not there'}`];
        return !right && (outcome?.refusal ?? '').includes('adapter') ? [] : [`${name} says ${outcome?.refusal ?? 'nothing'}`];
      });
    return [
      { check: `on ${device}: cpu is right and timed`, problems: problemsOf(['cpu'], true) },
      { check: `on ${device}: webgpu is ${device === 'none' ? 'refused for want of an adapter' : 'right and timed, next to its limit'}`, problems: [...problemsOf(['webgpu'], device !== 'none'), ...(device === 'none' || (limits['webgpu']?.gigaflopsPerSecond ?? 0) > 0 ? [] : ['its limit was not measured'])] },
      { check: `on ${device}: peers are ${device === 'none' ? 'refused for want of an adapter' : 'right and timed'}`, problems: problemsOf(others, device !== 'none') },
      { check: `on ${device}: the page fits its window`, problems: await looks(page) },
      { check: `on ${device}: nothing was thrown`, problems: errors },
    ];
  } finally {
    await browser.close();
  }
}

await build({ configFile, logLevel: 'warn' });
const server = await preview({ configFile, logLevel: 'warn', preview: { port: 0, open: false } });
const findings: Finding[] = [];
try {
  const address = server.httpServer.address();
  if (address === null || typeof address === 'string') throw new Error('The page has no address.');
  for (const device of ['SwiftShader', 'none'] as const) {
    try {
      findings.push(...(await visit(`http://127.0.0.1:${address.port}`, device)));
    } catch (error) {
      findings.push({ check: `on ${device}: the page measures`, problems: [error instanceof Error ? error.message : String(error)] });
    }
  }
} finally {
  await server.close();
}
conclude(process.cwd(), 'browser', findings);
