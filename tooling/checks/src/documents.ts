import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { laws } from '@heed/conformance';
import { errorCodes } from '@heed/core';
import { codeBlocks, runBlock } from './code-blocks.ts';
import { conclude, type Finding } from './counts.ts';
import { conformanceReports, generatedDocuments } from './generated.ts';
import { staleDocuments } from './stale-documents.ts';
import { root } from './workspace.ts';

/**
 * Whether the documents are true today: the README's first example and every program of guide and recipes run and print what their comments say, every link leads somewhere, every error code
 * has its heading and every heading its code, so has every law, every decision is listed, and the generated tables are what the code and the reports say.
 */
const folder = join(import.meta.dirname, '..');
const documents = [
  ...readdirSync(root).filter((file) => file.endsWith('.md')),
  ...readdirSync(join(root, 'docs'), { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.md')).map((file) => join('docs', file)),
];
const read = (path: string): string => readFileSync(join(root, path), 'utf8');

/** Every block of TypeScript of these is a program, which prints what its comments say. A package's README is run with its tests where it needs a device or a test runner. */
const programs = [...documents, ...['core', 'cpu', 'runtime-wasm', 'sparse', 'layers', 'linear'].map((name) => `packages/${name}/README.md`)];

async function codeFindings(): Promise<readonly Finding[]> {
  const alone = programs.flatMap((document) => codeBlocks(document).map((block, index) => ({ block, index }))).filter(({ block }) => block.file === null);
  const findings: Finding[] = [];
  // Two at a time: each is a process.
  for (let first = 0; first < alone.length; first += 2) findings.push(...(await Promise.all(alone.slice(first, first + 2).map(({ block, index }) => runBlock(block, index, folder)))));
  return findings;
}

function linkProblems(): readonly string[] {
  return documents.flatMap((document) =>
    [...read(document).matchAll(/\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)/g)]
      .map(([, target = '']) => target)
      .filter((target) => !existsSync(join(root, dirname(document), target)))
      .map((target) => `${document} links to ${target}, which does not exist`),
  );
}

function errorProblems(): readonly string[] {
  const headings = [...read('docs/errors.md').matchAll(/^## (.+)$/gm)].map(([, heading = '']) => heading);
  const missing = errorCodes.filter((code) => !headings.includes(code)).map((code) => `docs/errors.md has no heading ${code}`);
  const stale = headings.filter((heading) => !(errorCodes as readonly string[]).includes(heading)).map((heading) => `docs/errors.md explains ${heading}, which is no code`);
  return [...missing, ...stale];
}

function lawProblems(): readonly string[] {
  const headings = [...read('docs/laws.md').matchAll(/^## (L\d+) /gm)].map(([, law = '']) => law);
  return Object.keys(laws).filter((law) => !headings.includes(law)).map((law) => `docs/laws.md has no heading ${law}`);
}

function decisionProblems(): readonly string[] {
  const list = read('docs/decisions/README.md');
  return readdirSync(join(root, 'docs/decisions')).filter((file) => file !== 'README.md' && !list.includes(`(${file})`)).map((file) => `docs/decisions/README.md does not list ${file}`);
}

const { problems: tableProblems, notes } = staleDocuments(await generatedDocuments(), (process.env.CI ?? '') !== '');
const findings: readonly Finding[] = [
  ...(await codeFindings()),
  { check: 'links', problems: linkProblems() },
  { check: 'error codes', problems: errorProblems() },
  { check: 'laws', problems: lawProblems() },
  { check: 'decisions', problems: decisionProblems() },
  { check: 'generated tables', problems: conformanceReports().length === 0 ? ['no conformance lane has left a report'] : tableProblems },
];
conclude(folder, 'documents', findings, notes.length === 0 ? undefined : notes.join('\n'));
