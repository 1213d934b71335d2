import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { addBackend } from './backend.ts';
import { namesOf } from './names.ts';
import { addVariant, stages } from './variant.ts';

const usage = `pnpm new variant NAME [--stage ${Object.keys(stages).join(' | ')}]     default: modifier
pnpm new backend NAME`;

const { values, positionals } = parseArgs({ allowPositionals: true, options: { stage: { type: 'string', default: 'modifier' }, root: { type: 'string', default: resolve(import.meta.dirname, '../../..') } } });
const [kind, name, ...rest] = positionals;
if (name === undefined || rest.length > 0 || (kind !== 'variant' && kind !== 'backend')) {
  console.error(usage);
  process.exitCode = 2;
} else {
  try {
    const names = namesOf(name);
    const written = kind === 'variant' ? addVariant(values.root, names, values.stage) : addBackend(values.root, names);
    console.log(written.map((path) => `  ${path}`).join('\n'));
    console.log(kind === 'variant' ? 'Now write the formula, then: npx -y pnpm@12 tables && npx -y pnpm@12 test' : 'Now: npx -y pnpm@12 install && npx -y pnpm@12 test');
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    process.exitCode = 1;
  }
}
