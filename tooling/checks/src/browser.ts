import { build as bundleWithEsbuild } from 'esbuild';
import { mkdtempSync, rmSync, writeFileSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { build as bundleWithVite } from 'vite';
import type { Question, Verdict } from '../pages/verdict.ts';
import { launchChromium } from './chromium.ts';
import { writeCounts } from './counts.ts';
import { servePage } from './page-server.ts';

/**
 * Runs the conformance suite in Chromium, on the packages as built and bundled:
 *
 *     node browser.ts <page>      judges what `pages/<page>.html` and `pages/<page>.ts` make
 *
 * Three times: cross-origin isolated, with worker threads, from Vite's bundle; isolated with wide vectors, from esbuild's; and not isolated, where one
 * thread computes. Few examples: a browser differs in how threads and WebAssembly work, not in arithmetic.
 */

interface Visit extends Question {
  readonly bundler: 'Vite' | 'esbuild';
  readonly switches: readonly string[];
}

/** The flag of wide vectors has two names, of new and of earlier versions; the other one is ignored. */
const visits: readonly Visit[] = [
  { bundler: 'Vite', isolated: true, vectors: 'portable', packed: false, examples: 10, switches: [] },
  { bundler: 'esbuild', isolated: true, vectors: 'wide', packed: process.arch === 'x64', examples: 10, switches: ['--js-flags=--wasm-revectorize,--experimental-wasm-revectorize'] },
  { bundler: 'Vite', isolated: false, vectors: 'portable', packed: false, examples: 10, switches: [] },
];

const patience = 120_000;
const pages = join(import.meta.dirname, '../pages');
const [page = ''] = process.argv.slice(2);
const folder = process.cwd();

/** Vite finds the worker in the runtime's own code. */
async function throughVite(outDir: string): Promise<void> {
  await bundleWithVite({
    root: pages,
    configFile: false,
    logLevel: 'warn',
    build: { outDir, emptyOutDir: true, target: 'es2023', chunkSizeWarningLimit: Infinity, rolldownOptions: { input: join(pages, `${page}.html`) } },
  });
}

/** esbuild leaves the worker's address as it is, so the worker is an entry of its own, beside the program. */
async function throughEsbuild(outdir: string): Promise<void> {
  await bundleWithEsbuild({
    entryPoints: { [page]: join(pages, `${page}.ts`), worker: '@heed/runtime-wasm/worker' },
    outdir,
    absWorkingDir: pages,
    bundle: true,
    minify: true,
    format: 'esm',
    platform: 'browser',
    target: 'es2023',
    logLevel: 'warning',
  });
  const html = readFileSync(join(pages, `${page}.html`), 'utf8');
  writeFileSync(join(outdir, `${page}.html`), html.replace(`${page}.ts`, `${page}.js`));
}

/** Rejects when the page breaks, or takes too long. */
function troubleOf(opened: Page): Promise<never> {
  return new Promise((_, reject) => {
    setTimeout(() => {
      reject(new Error(`no verdict after ${patience / 1000} s`));
    }, patience).unref();
    opened.on('pageerror', reject);
    opened.on('crash', () => {
      reject(new Error('the page crashed'));
    });
  });
}

async function visit(bundle: string, switches: readonly string[], question: Question): Promise<Verdict> {
  const [server, browser] = await Promise.all([servePage(bundle, question.isolated), launchChromium(switches)]);
  try {
    const opened = await browser.newPage();
    const parameters = Object.entries(question).map(([name, value]) => `${name}=${value}`);
    const answer = Promise.race([server.verdict, troubleOf(opened)]);
    const [text] = await Promise.all([answer, opened.goto(`${server.origin}/${page}.html?${parameters.join('&')}`)]);
    return JSON.parse(text) as Verdict;
  } finally {
    await browser.close();
    server.close();
  }
}

/** Prints a verdict, and counts it. */
function tell(what: string, { report, description, findings }: Verdict, seconds: number): { readonly passed: number; readonly failed: number } {
  const wrong = findings.filter(({ problems }) => problems.length > 0);
  const counts = { passed: report.passed + findings.length - wrong.length, failed: report.failed + wrong.length };
  console.log(`${what}: ${counts.passed} passed, ${counts.failed} failed, ${seconds.toFixed(1)} s\n  ${description.join('\n  ')}`);
  for (const { check, problems } of wrong) console.error(`${what}: ${check}\n  ${problems.join('\n  ')}`);
  for (const { id, passed, message } of Object.values(report.cases)) if (!passed) console.error(`${what}: FAILED ${id}\n  ${message ?? ''}`);
  return counts;
}

const bundles = mkdtempSync(join(tmpdir(), 'heed-page-'));
const place = (bundler: Visit['bundler']): string => join(bundles, bundler);
const total = { passed: 0, failed: 0 };
try {
  await Promise.all([throughVite(place('Vite')), throughEsbuild(place('esbuild'))]);
  for (const { bundler, switches, ...question } of visits) {
    const what = `Chromium, ${question.isolated ? 'isolated' : 'not isolated'}, ${question.vectors}, through ${bundler}`;
    const started = performance.now();
    try {
      const { passed, failed } = tell(what, await visit(place(bundler), switches, question), (performance.now() - started) / 1000);
      total.passed += passed;
      total.failed += failed;
    } catch (error) {
      console.error(`${what}: ${String(error)}`);
      total.failed += 1;
    }
  }
} catch (error) {
  console.error(error);
  total.failed += 1;
} finally {
  rmSync(bundles, { recursive: true, force: true });
}
writeCounts(folder, 'browser', total);
console.log(`browser: ${total.passed} passed, ${total.failed} failed`);
process.exitCode = total.failed === 0 ? 0 : 1;
