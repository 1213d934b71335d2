import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { conformanceReports, generatedDocuments } from './generated.ts';
import { root } from './workspace.ts';

/** Writes the generated parts of the documents anew. The table of backends needs the reports of `npx -y pnpm@12 test`. */
for (const { path, before, after } of await generatedDocuments()) {
  if (after !== before) writeFileSync(join(root, path), after);
  console.log(`${path} ${after === before ? 'unchanged' : 'written'}`);
}
if (conformanceReports().length === 0) console.log('No conformance reports: run `npx -y pnpm@12 test` first for the table of backends.');
