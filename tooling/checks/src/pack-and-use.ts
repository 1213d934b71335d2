import { build as bundleWithEsbuild } from 'esbuild';
import { cpSync, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { build as bundleWithVite } from 'vite';
import { conclude, type Finding } from './counts.ts';
import { run, type Finished } from './process.ts';
import { runIn, type OtherRuntime } from './runtimes.ts';
import { publicPackages } from './workspace.ts';

/**
 * Installs the packed tarballs into an empty project and uses them as consumers do: from JavaScript in Node, Deno and Bun, from
 * TypeScript, through two bundlers, and by their commands. Nothing of the workspace but the tarballs is in reach.
 *
 * A consumer is a file of `consumers/`. It checks what it gets and prints `right`.
 */

const here = join(import.meta.dirname, '..');
const consumers = join(here, 'consumers');
const project = mkdtempSync(join(tmpdir(), 'heed-consumer-'));

/** Nothing when the program ended well and its last line says so. */
function problemsOf(program: string, { status, output }: Finished): readonly string[] {
  // Engines print the line that threw, which in a bundle is all of it.
  const lines = output.split('\n').map((line) => (line.length > 1000 ? `${line.slice(0, 1000)} …` : line));
  return status === 0 && output.trimEnd().endsWith('right') ? [] : [`${program} ended with ${status}:\n${lines.join('\n')}`];
}

function inNode(program: string): readonly string[] {
  return problemsOf(program, run('node', [program], project));
}

function inOther(runtime: OtherRuntime, program: string): readonly string[] {
  return problemsOf(program, runIn(runtime, program, [], project));
}

function install(): readonly string[] {
  const packages = publicPackages();
  const unpacked = packages.filter(({ folder }) => !existsSync(join(folder, '.tarball/package.tgz')));
  if (unpacked.length > 0) return unpacked.map(({ manifest }) => `${manifest.name} is not packed: run its script "tarball" first`);
  const dependencies = Object.fromEntries(packages.map(({ folder, manifest }) => [manifest.name, `file:${join(folder, '.tarball/package.tgz')}`]));
  writeFileSync(join(project, 'package.json'), JSON.stringify({ name: 'consumer', private: true, type: 'module', dependencies }));
  // Offline: whatever the packages need at run time has to be in the tarballs.
  const { status, output } = run('npm', ['install', '--offline', '--ignore-scripts', '--no-audit', '--no-fund', '--no-package-lock'], project);
  return status === 0 ? [] : [output];
}

/** A bundler's own failure is a problem like any other. */
async function problemsOfBundle(bundle: () => Promise<unknown>, output: string): Promise<readonly string[]> {
  try {
    await bundle();
  } catch (error) {
    return [String(error)];
  }
  return inNode(output);
}

function throughEsbuild(program: string): Promise<readonly string[]> {
  const outdir = join('esbuild', basename(program, '.js'));
  return problemsOfBundle(
    () =>
      bundleWithEsbuild({
        absWorkingDir: project,
        // esbuild leaves the address of the worker as it is: the worker is an entry of its own, beside the program.
        entryPoints: [{ in: program, out: basename(program, '.js') }, { in: '@heed/runtime-wasm/worker', out: 'worker' }],
        outdir,
        bundle: true,
        minify: true,
        format: 'esm',
        platform: 'browser',
        target: 'es2022',
        logLevel: 'silent',
      }),
    join(outdir, program),
  );
}

function throughVite(program: string): Promise<readonly string[]> {
  const outDir = join('vite', basename(program, '.js'));
  return problemsOfBundle(
    () =>
      bundleWithVite({
        root: project,
        configFile: false,
        logLevel: 'silent',
        // The worker is found beside the program, wherever that lies.
        base: './',
        build: { outDir, target: 'es2022', modulePreload: false, rolldownOptions: { input: join(project, program), output: { entryFileNames: '[name].js' } } },
      }),
    join(outDir, program),
  );
}

async function use(): Promise<readonly Finding[]> {
  const installed = install();
  const findings: Finding[] = [{ check: 'install the tarballs into an empty project', problems: installed }];
  if (installed.length > 0) return findings;

  cpSync(join(consumers, 'javascript'), project, { recursive: true });
  for (const program of readdirSync(join(consumers, 'javascript'))) {
    findings.push(
      { check: `${program} in Node`, problems: inNode(program) },
      { check: `${program} in Deno`, problems: inOther('deno', program) },
      { check: `${program} in Bun`, problems: inOther('bun', program) },
      { check: `${program} through esbuild`, problems: await throughEsbuild(program) },
      { check: `${program} through Vite`, problems: await throughVite(program) },
    );
  }

  cpSync(join(consumers, 'typescript'), project, { recursive: true });
  const types = run('tsc', ['--project', project], project);
  findings.push({ check: 'TypeScript, strict, with the declarations checked too', problems: types.status === 0 ? [] : [types.output] });
  for (const program of readdirSync(join(consumers, 'typescript')).filter((name) => name.endsWith('.ts'))) {
    findings.push({ check: `${program} in Node`, problems: inNode(program) });
  }

  const list = run(join(project, 'node_modules/.bin/heed-conformance'), ['--list'], project);
  findings.push({ check: 'heed-conformance --list', problems: list.status === 0 && list.output.trim() !== '' ? [] : [list.output] });
  return findings;
}

try {
  conclude(here, 'use', await use());
} finally {
  rmSync(project, { recursive: true, force: true });
}
