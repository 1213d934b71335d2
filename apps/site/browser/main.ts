import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { build as bundle } from 'vite';
import { build as buildSite } from 'vitepress';
import { codeBlocks, expectedLines } from '../../../tooling/checks/src/code-blocks.ts';
import { launchChromium } from '../../../tooling/checks/src/chromium.ts';
import { conclude, type Finding } from '../../../tooling/checks/src/counts.ts';
import { serveSite } from '../../../tooling/checks/src/site-server.ts';

/**
 * Builds the pages of the documentation, opens each in Chromium, and runs those programs of the documents that are made for a browser: files that
 * belong together, bundled as they stand.
 */
const folder = join(import.meta.dirname, '..');
const documents = join(folder, '../../docs');
const findings: Finding[] = [];

const work = mkdtempSync(join(folder, '.browser-'));
const browser = await launchChromium();
try {
  await buildSite(folder, { outDir: join(work, 'site') });
  findings.push(...(await openPages(join(work, 'site'))));
  for (const recipe of readdirSync(join(documents, 'recipes'))) {
    const document = `docs/recipes/${recipe}`;
    const files = codeBlocks(document).filter(({ file }) => file !== null);
    if (files.length > 0) findings.push(await runProgram(document, new Map(files.map(({ file, code }) => [file ?? '', code]))));
  }
} catch (error) {
  findings.push({ check: 'the pages are built', problems: [error instanceof Error ? (error.stack ?? error.message) : String(error)] });
} finally {
  await browser.close();
  rmSync(work, { recursive: true, force: true });
}
conclude(folder, 'browser', findings);

/** Every page opens, has a heading, and complains of nothing. */
async function openPages(site: string): Promise<readonly Finding[]> {
  const server = await serveSite(site, '/', true);
  const pages = readdirSync(site, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.html') && file !== '404.html');
  const found: Finding[] = [];
  try {
    for (const file of pages) {
      const page = await browser.newPage();
      const problems: string[] = [];
      page.on('pageerror', (error) => problems.push(error.message));
      await page.goto(`${server.address}${file}`);
      if ((await page.locator('h1').count()) !== 1) problems.push('the page has no single heading');
      await page.close();
      found.push({ check: `${file} opens`, problems });
    }
  } finally {
    server.close();
  }
  return found;
}

/** Bundles a document's files as they stand, and compares what the page prints with what they say. */
async function runProgram(document: string, files: ReadonlyMap<string, string>): Promise<Finding> {
  const check = `${document} runs in a browser and prints what it says`;
  const source = mkdtempSync(join(work, 'program-'));
  for (const [file, code] of files) writeFileSync(join(source, file), code);
  const main = [...files.keys()].find((file) => file.startsWith('main.')) ?? '';
  writeFileSync(join(source, 'index.html'), `<!doctype html><html lang="en"><title>program</title><link rel="icon" href="data:,"><script type="module" src="./${main}"></script></html>`);
  const outDir = join(source, 'dist');
  mkdirSync(outDir);
  await bundle({ root: source, configFile: false, logLevel: 'error', resolve: { conditions: ['@heed/source', 'module', 'browser', 'production'] }, oxc: { jsx: { runtime: 'automatic' } }, worker: { format: 'es' }, build: { outDir, target: 'es2023' } });
  const server = await serveSite(outDir, '/', true);
  const page = await browser.newPage();
  try {
    const expected = [...files.values()].flatMap(expectedLines);
    const printed: string[] = [];
    const problems: string[] = [];
    page.on('console', (message) => (message.type() === 'log' ? printed : problems).push(message.text()));
    page.on('pageerror', (error) => problems.push(error.message));
    await page.goto(server.address);
    const until = Date.now() + 20_000;
    while (printed.length < expected.length && problems.length === 0 && Date.now() < until) await page.waitForTimeout(50);
    return { check, problems: [...problems, ...(printed.join('\n') === expected.join('\n') ? [] : [`it printed:\n${printed.join('\n')}\nand says:\n${expected.join('\n')}`])] };
  } finally {
    await page.close();
    server.close();
  }
}
