import type { GeneratedDocument } from './generated.ts';

/**
 * What to do about documents whose generated parts are not what they should be.
 *
 * What comes from reports changes with every variant and backend, and can be written only after the tests ran: while someone works it may be behind, which
 * is noted; in CI it is wrong. What comes from the code is wrong everywhere.
 */
export function staleDocuments(documents: readonly GeneratedDocument[], inCI: boolean): { readonly problems: readonly string[]; readonly notes: readonly string[] } {
  const stale = documents.filter(({ before, after }) => before !== after);
  return {
    problems: stale.filter(({ fromReports }) => inCI || !fromReports).map(({ path }) => `${path} is not what the code and the reports say: run \`npx -y pnpm@12 tables\``),
    notes: stale.filter(({ fromReports }) => fromReports && !inCI).map(({ path }) => `${path} is behind the reports, which would fail in CI: run \`npx -y pnpm@12 tables\``),
  };
}
