import ts from 'typescript';

export interface Source {
  /** Relative to the folder of stages, as in modifiers/softcap.ts. */
  readonly file: string;
  readonly text: string;
}

/**
 * One Markdown table for each stage folder: every function that core exports from it, linked to its file, with the first paragraph of its doc comment.
 *
 * @param index text of core's index.ts, which says what is public
 */
export function memberTables(sources: readonly Source[], index: string): Readonly<Record<string, string>> {
  const exported = new Set([...parse('index.ts', index).statements].flatMap((statement) => (ts.isExportDeclaration(statement) && !statement.isTypeOnly && statement.exportClause !== undefined && ts.isNamedExports(statement.exportClause) ? statement.exportClause.elements.map((element) => element.name.text) : [])));
  const folders = new Set(sources.map(({ file }) => file.split('/')[0] ?? ''));
  return Object.fromEntries(
    [...folders].map((folder) => {
      const rows = sources
        .filter(({ file }) => file.startsWith(`${folder}/`))
        .flatMap(({ file, text }) => membersOf(file, text).filter(({ name }) => exported.has(name)).map(({ name, summary }) => `| [\`${name}\`](../packages/core/src/stages/${file}) | ${summary} |`));
      return [folder, ['| member | what it is |', '|---|---|', ...rows].join('\n')];
    }),
  );
}

function membersOf(file: string, text: string): readonly { readonly name: string; readonly summary: string }[] {
  return parse(file, text).statements.flatMap((statement) => {
    if (!ts.isFunctionDeclaration(statement) || statement.name === undefined) return [];
    const comment = ts.getJSDocCommentsAndTags(statement).find(ts.isJSDoc);
    return [{ name: statement.name.text, summary: firstParagraph(ts.getTextOfJSDocComment(comment?.comment) ?? '') }];
  });
}

/** On one line, safe in a table cell. */
function firstParagraph(comment: string): string {
  const paragraph = comment.split(/\n\s*\n/)[0] ?? '';
  return paragraph.replaceAll(/\s+/g, ' ').replaceAll(/\{@link (\w+)\}/g, '`$1`').replaceAll('|', '\\|').trim();
}

function parse(file: string, text: string): ts.SourceFile {
  return ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true);
}
