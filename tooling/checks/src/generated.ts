import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { exact, float32Attention, float32Gradient, float32LogSumExp, float32Recurrence, float32Threshold, sixDecimals } from '@heed/conformance';
import { countsFile } from './counts.ts';
import { memberTables, type Source } from './member-tables.ts';
import { recallTable } from './recall-table.ts';
import { supportTable, type ConformanceReport } from './support-table.ts';
import { root, workspacePackages } from './workspace.ts';

/** A document with generated parts, as it is and as it should be. */
export interface GeneratedDocument {
  /** Relative to the root. */
  readonly path: string;
  readonly before: string;
  readonly after: string;
  /** It holds what the conformance lanes reported, so it can be written only after they ran. */
  readonly fromReports: boolean;
}

/**
 * The documents with generated parts, between `<!-- generated: NAME -->` and `<!-- /generated -->`: `support` in README.md, from the conformance
 * reports; one table for each stage and for the rules in docs/variants.md, from core's doc comments; the bounds in docs/tolerances.md, from the suite; docs/recall.md, from the reference. Where no lane has left a report, `support` stays as it is.
 */
export async function generatedDocuments(): Promise<readonly GeneratedDocument[]> {
  const index = readFileSync(join(root, 'packages/core/src/index.ts'), 'utf8');
  const reports = conformanceReports();
  const parts: Readonly<Record<string, string>> = {
    ...memberTables(sourcesBelow('packages/core/src/stages'), index, '../packages/core/src/stages'),
    ...memberTables(sourcesBelow('packages/core/src/fast-weights').filter(({ file }) => file.startsWith('rules/')), index, '../packages/core/src/fast-weights'),
    tolerances: toleranceTable(),
    recall: await recallTable(),
    ...(reports.length === 0 ? {} : { support: supportTable(reports) }),
  };
  return ['README.md', 'docs/variants.md', 'docs/tolerances.md', 'docs/recall.md'].map((path) => {
    const before = readFileSync(join(root, path), 'utf8');
    const after = before.replaceAll(/(<!-- generated: (.+?) -->\n)[^]*?(\n<!-- \/generated -->)/g, (whole, start: string, name: string, end: string) => {
      const part = parts[name];
      return part === undefined ? whole : `${start}\n${part}\n${end}`;
    });
    return { path, before, after, fromReports: before.includes('<!-- generated: support -->') };
  });
}

function sourcesBelow(folder: string): readonly Source[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .map((file) => file.replaceAll('\\', '/'))
    .filter((file) => file.endsWith('.ts') && file.includes('/'))
    .sort()
    .map((file) => ({ file, text: readFileSync(join(root, folder, file), 'utf8') }));
}

/** Every bound of the suite with its reason. */
function toleranceTable(): string {
  const rows = [float32Attention, float32LogSumExp, float32Threshold, float32Recurrence, float32Gradient, sixDecimals, exact].map(({ name, formula, reason }) => `| ${name} | ${formula.replaceAll('|', '\\|')} | ${reason} |`);
  return ['| bound | formula | reason |', '|---|---|---|', ...rows].join('\n');
}

/** Reports that the conformance lanes of all packages have left: one for each backend, not one for each runtime it is judged in. A backend of one name on two runtimes is told apart by its lane. */
export function conformanceReports(): readonly ConformanceReport[] {
  return workspacePackages().flatMap(({ folder, manifest }) =>
    Object.keys(manifest.scripts ?? {})
      .filter((script) => script === 'conformance' || script === 'conformance-webgpu')
      .map((script) => ({ script, file: countsFile(folder, script) }))
      .filter(({ file }) => existsSync(file))
      .map(({ script, file }) => {
        const report = JSON.parse(readFileSync(file, 'utf8')) as ConformanceReport;
        return script === 'conformance-webgpu' && !report.backend.includes('webgpu') ? { ...report, backend: `${report.backend}(webgpu)` } : report;
      }),
  );
}
