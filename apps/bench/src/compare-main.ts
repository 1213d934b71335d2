import { isAttentionError } from '@heed/core';
import { changesOf, readReport, renderChanges } from './compare.ts';

const [before, after, ...more] = process.argv.slice(2);
try {
  if (before === undefined || after === undefined || more.length > 0) {
    console.error('usage: pnpm bench:compare <before.json> <after.json>');
    process.exitCode = 2;
  } else {
    console.log(renderChanges(changesOf(await readReport(before), await readReport(after))));
  }
} catch (error) {
  if (!isAttentionError(error)) throw error;
  console.error(`${error.code}: ${error.message}`);
  process.exitCode = 2;
}
