import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { conclude } from './counts.ts';
import { run } from './process.ts';
import { root } from './workspace.ts';

/** Every workflow against the published schema of workflows, and its path filters against the files they name. */

const names = readdirSync(join(root, '.github/workflows')).filter((name) => name.endsWith('.yml'));

conclude(
  join(import.meta.dirname, '..'),
  'workflows',
  names.map((name) => {
    const { status, output } = run('action-validator', [`.github/workflows/${name}`], root);
    return { check: name, problems: status === 0 ? [] : [output] };
  }),
);
