import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Names } from './names.ts';
import { fill } from './names.ts';

/** What a member of a stage is made of: where its file goes, and the row that puts it into the conformance suite. */
interface StageTemplate {
  /** Folder below packages/core/src/stages, and below packages/core/test/stages. */
  readonly folder: string;
  /** Record in packages/conformance/src/variants.ts that gets a row. */
  readonly record: string;
  readonly row: string;
}

/** Every stage that a member can be added to, by its name on the command line. */
export const stages: Readonly<Record<string, StageTemplate>> = {
  scoring: { folder: 'scoring', record: 'scorings', row: '{ make: () => attention({ scoring: __camel__() }), score: 60 }' },
  transform: { folder: 'transforms', record: 'transforms', row: '{ make: () => attention({ scoring: scaledDot().transform(__camel__()) }) }' },
  modifier: { folder: 'modifiers', record: 'modifiers', row: '{ make: () => attention({ scoring: scaledDot().modify(__camel__()) }) }' },
  masking: { folder: 'masking', record: 'maskings', row: '{ make: () => attention({ masking: __camel__() }) }' },
  normalization: { folder: 'normalization', record: 'normalizations', row: '(stages) => attention({ ...stages, normalization: __camel__() })' },
  reweighing: { folder: 'reweighing', record: 'normalizations', row: '(stages) => attention({ ...stages, normalization: softmax().reweighBy(__camel__()) })' },
  aggregation: { folder: 'aggregation', record: 'aggregations', row: '{ make: () => attention({ aggregation: __camel__() }) }' },
};

/**
 * Adds a member: its file and test in core, its export, and its row in the suite, which gives it cases in every area that goes through all variants.
 *
 * @returns the files written or changed, relative to the root
 * @throws Error when the stage is unknown or the name is taken
 */
export function addVariant(root: string, names: Names, stage: string): readonly string[] {
  const template = stages[stage];
  if (template === undefined) throw new Error(`Got the stage '${stage}'. Expected one of ${Object.keys(stages).join(', ')}.`);
  const member = `packages/core/src/stages/${template.folder}/${names.kebab}.ts`;
  const test = `packages/core/test/stages/${names.kebab}.test.ts`;
  const index = 'packages/core/src/index.ts';
  const suite = 'packages/conformance/src/variants.ts';
  const exports = readFileSync(join(root, index), 'utf8');
  if (existsSync(join(root, member)) || new RegExp(`\\b${names.camel}\\b`).test(exports)) throw new Error(`'${names.camel}' exists already. Choose another name.`);
  const write = (path: string, text: string): void => writeFileSync(join(root, path), text);
  const read = (file: string): string => fill(readFileSync(join(import.meta.dirname, '../templates/variant', file), 'utf8'), names);
  write(index, afterLast(exports, `from './stages/${template.folder}/`, `export { ${names.camel} } from './stages/${template.folder}/${names.kebab}.ts';`));
  write(suite, withRow(readFileSync(join(root, suite), 'utf8'), names, template));
  write(member, read(`${stage}.ts.template`));
  write(test, read(`${stage}.test.ts.template`));
  return [member, test, index, suite];
}

/** A line after the last line that holds `mark`. */
function afterLast(text: string, mark: string, line: string): string {
  const lines = text.split('\n');
  const last = lines.findLastIndex((each) => each.includes(mark));
  if (last < 0) throw new Error(`No line of the index holds ${mark}.`);
  return lines.toSpliced(last + 1, 0, line).join('\n');
}

function withRow(text: string, names: Names, template: StageTemplate): string {
  const lines = text.split('\n');
  const record = lines.findIndex((line) => line.startsWith(`const ${template.record}:`) || line.startsWith(`export const ${template.record}:`));
  const end = lines.indexOf('};', record);
  const imported = lines.findIndex((line) => line.startsWith("} from '@heed/core';"));
  if (record < 0 || end < 0 || imported < 0) throw new Error(`The suite's variants have no record '${template.record}', or import nothing from core.`);
  return lines.toSpliced(end, 0, `  ${names.camel}: ${fill(template.row, names)},`).toSpliced(imported, 0, `  ${names.camel},`).join('\n');
}
