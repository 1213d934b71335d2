import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { publint } from 'publint';
import { formatMessage } from 'publint/utils';
import { conclude, type Finding } from './counts.ts';
import { run } from './process.ts';
import { budgets, sizeOf } from './sizes.ts';
import { readManifest } from './workspace.ts';

/**
 * Packs the package it is run in, as publishing would, and judges what is in the tarball: publint in its strict mode,
 * are-the-types-wrong, and the size budgets. Leaves `.tarball/package.tgz` and the same unpacked beside it.
 */

const folder = process.cwd();
const { name } = readManifest(folder);
const place = join(folder, '.tarball');
const tarball = join(place, 'package.tgz');
const unpacked = join(place, 'package');

async function publintProblems(): Promise<readonly string[]> {
  const bytes = readFileSync(tarball);
  const { messages, pkg } = await publint({ strict: true, pack: { tarball: bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) } });
  return messages.map((message) => formatMessage(message, pkg, { color: false }) ?? message.code);
}

async function sizeProblems(): Promise<readonly string[]> {
  const problems: string[] = [];
  for (const [entry, budget] of Object.entries(budgets[name] ?? {})) {
    const bytes = await sizeOf(unpacked, entry);
    console.log(`${name} ${entry}: ${bytes} bytes of ${budget}`);
    if (bytes > budget) problems.push(`${entry} is ${bytes} bytes minified and gzipped; its budget is ${budget}`);
  }
  return problems;
}

function ofRun(program: string, args: readonly string[]): readonly string[] {
  const { status, output } = run(program, args, folder);
  return status === 0 ? [] : [output];
}

rmSync(place, { recursive: true, force: true });
mkdirSync(place, { recursive: true });
const packed = run('pnpm', ['pack', '--out', '.tarball/package.tgz'], folder);
const findings: Finding[] = [{ check: `${name}: pack`, problems: packed.status === 0 && existsSync(tarball) ? [] : [packed.output] }];
if (existsSync(tarball)) {
  findings.push(
    { check: `${name}: unpack`, problems: ofRun('tar', ['-xzf', '.tarball/package.tgz', '-C', '.tarball']) },
    { check: `${name}: publint`, problems: await publintProblems() },
    { check: `${name}: are the types wrong`, problems: ofRun('attw', ['.tarball/package.tgz', '--profile', 'esm-only', '--no-color']) },
    { check: `${name}: size`, problems: await sizeProblems() },
  );
}
conclude(folder, 'tarball', findings);
