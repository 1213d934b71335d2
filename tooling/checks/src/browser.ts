import { build as bundleWithEsbuild } from 'esbuild';
import { mkdtempSync, rmSync, writeFileSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { build as bundleWithVite } from 'vite';
import type { CpuQuestion, Question, Verdict } from '../pages/verdict.ts';
import { launchChromium } from './chromium.ts';
import { writeCounts } from './counts.ts';
import { servePage } from './page-server.ts';

/**
 * Runs the conformance suite in Chromium, on the packages as built and bundled:
 *
 *     node browser.ts <page>      judges what `pages/<page>.html` and `pages/<page>.ts` make
 *
 * Few examples: a browser differs in how threads, WebAssembly and devices work, not in arithmetic.
 */

interface Visit {
  readonly what: string;
  readonly bundler: 'Vite' | 'esbuild';
  readonly switches: readonly string[];
  readonly question: Question | CpuQuestion;
}

/**
 * The visits of each page. cpu: cross-origin isolated, with worker threads; isolated with wide vectors; and not isolated, where one thread computes.
 * webgpu: on the software device that Chromium brings, which gives the same results on every machine.
 */
const visits: Readonly<Record<string, readonly Visit[]>> = {
  cpu: [
    { what: 'isolated, portable', bundler: 'Vite', switches: [], question: { isolated: true, vectors: 'portable', packed: false, examples: 10 } },
    // The flag has two names, of new and of earlier versions; the other one is ignored.
    { what: 'isolated, wide', bundler: 'esbuild', switches: ['--js-flags=--wasm-revectorize,--experimental-wasm-revectorize'], question: { isolated: true, vectors: 'wide', packed: process.arch === 'x64', examples: 10 } },
    { what: 'not isolated, portable', bundler: 'Vite', switches: [], question: { isolated: false, vectors: 'portable', packed: false, examples: 10 } },
  ],
  webgpu: [{ what: 'SwiftShader', bundler: 'Vite', switches: ['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader'], question: { isolated: true, examples: 5 } }],
};

const patience = 300_000;
const pages = join(import.meta.dirname, '../pages');
const [page = ''] = process.argv.slice(2);
const own = visits[page];
if (own === undefined) throw new Error(`There is no page '${page}'; expected one of ${Object.keys(visits).join(', ')}.`);
const bundlers = new Set(own.map(({ bundler }) => bundler));
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
    entryPoints: { [page]: join(pages, `${page}.ts`), ...(page === 'cpu' ? { worker: '@heed/runtime-wasm/worker' } : {}) },
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
  await Promise.all([...bundlers].map(async (bundler) => (bundler === 'Vite' ? throughVite : throughEsbuild)(place(bundler))));
  for (const { what: setting, bundler, switches, question } of own) {
    const what = `Chromium, ${setting}, through ${bundler}`;
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
