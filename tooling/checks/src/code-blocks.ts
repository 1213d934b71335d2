import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Finding } from './counts.ts';
import { root } from './workspace.ts';

/** A block of code of a document. */
export interface CodeBlock {
  readonly document: string;
  readonly code: string;
  /** Lines that a part of a program needs in front: those of the comment before it, `<!-- after: … -->`, which pages do not show. */
  readonly before: string;
  /** The file that it is, where the document has several that belong together; they run in a browser. */
  readonly file: string | null;
}

/** Every block of TypeScript of a document, in order. */
export function codeBlocks(document: string): readonly CodeBlock[] {
  const text = readFileSync(join(root, document), 'utf8');
  return [...text.matchAll(/^(?:<!-- after:\s+([^]*?)\s*-->\n)?```(tsx?)(?: (\S+))?\n([^]*?)^```$/gm)].map(([, before = '', , file, code = '']) => ({ document, before, code, file: file ?? null }));
}

/** What a program says that it prints: what stands in a comment behind each console.log, and behind an arrow in comments that stand alone. */
export function expectedLines(code: string): readonly string[] {
  return code.split('\n').flatMap((line) => /console\.log\(.*\);?[ })]* \/\/ (.*)$/.exec(line)?.[1] ?? /^\/\/ → (.*)$/.exec(line)?.[1] ?? []);
}

/** Runs a block in Node on the sources of the workspace. `folder` is where @heed/* is found from. */
export async function runBlock({ document, before, code }: CodeBlock, index: number, folder: string): Promise<Finding> {
  const check = `${document}, block ${index + 1}, runs and prints what it says`;
  const place = mkdtempSync(join(folder, '.example-'));
  try {
    writeFileSync(join(place, 'example.ts'), `${before}\n${code}`);
    const { status, stdout, stderr } = await run(join(place, 'example.ts'));
    if (status !== 0) return { check, problems: [`it failed:\n${stderr}`] };
    const expected = expectedLines(code).join('\n');
    return { check, problems: stdout.trim() === expected ? [] : [`it printed:\n${stdout}and says:\n${expected}`] };
  } finally {
    rmSync(place, { recursive: true, force: true });
  }
}

function run(file: string): Promise<{ readonly status: number | null; readonly stdout: string; readonly stderr: string }> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, ['--conditions=@heed/source', file], { timeout: 60_000 });
    const [stdout, stderr]: [string[], string[]] = [[], []];
    child.stdout.on('data', (text: Buffer) => stdout.push(text.toString()));
    child.stderr.on('data', (text: Buffer) => stderr.push(text.toString()));
    child.on('close', (status) => {
      resolve({ status, stdout: stdout.join(''), stderr: stderr.join('') });
    });
  });
}
