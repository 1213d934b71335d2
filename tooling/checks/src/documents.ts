import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { laws } from '@heed/conformance';
import { errorCodes } from '@heed/core';
import { conclude, type Finding } from './counts.ts';
import { conformanceReports, generatedDocuments } from './generated.ts';
import { staleDocuments } from './stale-documents.ts';
import { root } from './workspace.ts';

/**
 * Whether the documents are true today: the README's first example runs and prints what its comments say, every link leads somewhere, every error code
 * has its heading and every heading its code, so has every law, every decision is listed, and the generated tables are what the code and the reports say.
 */
const folder = join(import.meta.dirname, '..');
const documents = [
  ...readdirSync(root).filter((file) => file.endsWith('.md')),
  ...readdirSync(join(root, 'docs'), { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.md')).map((file) => join('docs', file)),
];
const read = (path: string): string => readFileSync(join(root, path), 'utf8');

/** The first block of TypeScript of the README, as a program; `// …` after a console.log is what it must print. */
function exampleProblems(): readonly string[] {
  const [, code] = /```ts\n([^]*?)```/.exec(read('README.md')) ?? [];
  if (code === undefined) return ['the README has no example'];
  const expected = [...code.matchAll(/console\.log\(.*\); \/\/ (.*)$/gm)].map(([, text]) => text);
  // Below this folder, so that @heed/* is found.
  const place = mkdtempSync(join(folder, '.example-'));
  try {
    writeFileSync(join(place, 'example.ts'), code);
    const { status, stdout, stderr } = spawnSync(process.execPath, ['--conditions=@heed/source', join(place, 'example.ts')], { encoding: 'utf8' });
    if (status !== 0) return [`the first example failed:\n${stderr}`];
    return stdout.trim() === expected.join('\n') ? [] : [`the first example printed:\n${stdout}and says:\n${expected.join('\n')}`];
  } finally {
    rmSync(place, { recursive: true, force: true });
  }
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
  { check: 'the first example', problems: exampleProblems() },
  { check: 'links', problems: linkProblems() },
  { check: 'error codes', problems: errorProblems() },
  { check: 'laws', problems: lawProblems() },
  { check: 'decisions', problems: decisionProblems() },
  { check: 'generated tables', problems: conformanceReports().length === 0 ? ['no conformance lane has left a report'] : tableProblems },
];
conclude(folder, 'documents', findings, notes.length === 0 ? undefined : notes.join('\n'));
