import ts from 'typescript';

export interface Source {
  /** Relative to the folder of stages, as in modifiers/softcap.ts. */
  readonly file: string;
  readonly text: string;
}

interface Member {
  /** As it is called: `softmax({ temperature?, sink? })`. */
  readonly call: string;
  readonly name: string;
  readonly summary: string;
}

/**
 * One Markdown table for each folder: every function that core exports from it, as it is called, linked to its file, with the first paragraph of its doc comment.
 *
 * @param index text of core's index.ts, which says what is public
 * @param base  path of the sources, seen from the document
 */
export function memberTables(sources: readonly Source[], index: string, base: string): Readonly<Record<string, string>> {
  const exported = exportedNames(index);
  const files = sources.map(({ file, text }) => ({ file, source: parse(file, text) }));
  const interfaces = new Map(files.flatMap(({ source }) => source.statements.filter(ts.isInterfaceDeclaration).map((each) => [each.name.text, each] as const)));
  const folders = new Set(sources.map(({ file }) => file.split('/')[0] ?? ''));
  return Object.fromEntries(
    [...folders].map((folder) => {
      const rows = files
        .filter(({ file }) => file.startsWith(`${folder}/`))
        .flatMap(({ file, source }) => membersOf(source, interfaces).filter(({ name }) => exported.has(name)).map(({ call, summary }) => `| [\`${call}\`](${base}/${file}) | ${summary} |`));
      return [folder, ['| member | what it is |', '|---|---|', ...rows].join('\n')];
    }),
  );
}

function exportedNames(index: string): ReadonlySet<string> {
  const names = parse('index.ts', index).statements.flatMap((statement) => {
    if (!ts.isExportDeclaration(statement) || statement.isTypeOnly || statement.exportClause === undefined || !ts.isNamedExports(statement.exportClause)) return [];
    return statement.exportClause.elements.map((element) => element.name.text);
  });
  return new Set(names);
}

type Interfaces = ReadonlyMap<string, ts.InterfaceDeclaration>;

function membersOf(source: ts.SourceFile, interfaces: Interfaces): readonly Member[] {
  return source.statements.flatMap((statement) => {
    if (!ts.isFunctionDeclaration(statement) || statement.name === undefined) return [];
    const comment = ts.getJSDocCommentsAndTags(statement).find(ts.isJSDoc);
    const name = statement.name.text;
    const parameters = statement.parameters.map((parameter) => parameterText(parameter, interfaces));
    return [{ name, call: `${name}(${parameters.join(', ')})`, summary: firstParagraph(ts.getTextOfJSDocComment(comment?.comment) ?? '') }];
  });
}

/** Options by the names of their fields, `?` where one may be left out; any other parameter by its own name. */
function parameterText({ name, type, questionToken, initializer }: ts.ParameterDeclaration, interfaces: Interfaces): string {
  const fields = type === undefined ? undefined : fieldsOf(type, interfaces);
  if (fields !== undefined) return `{ ${fields.join(', ')} }`;
  return `${name.getText()}${questionToken === undefined && initializer === undefined ? '' : '?'}`;
}

function fieldsOf(type: ts.TypeNode, interfaces: Interfaces): readonly string[] | undefined {
  if (ts.isTypeLiteralNode(type)) return namesOf(type.members);
  const declared = ts.isTypeReferenceNode(type) ? interfaces.get(type.typeName.getText()) : undefined;
  return declared === undefined ? undefined : fieldsOfInterface(declared, interfaces);
}

function fieldsOfInterface(declared: ts.InterfaceDeclaration, interfaces: Interfaces): readonly string[] {
  const inherited = (declared.heritageClauses ?? []).flatMap(({ types }) => types.map((each) => interfaces.get(each.expression.getText())));
  return [...namesOf(declared.members), ...inherited.flatMap((each) => (each === undefined ? [] : fieldsOfInterface(each, interfaces)))];
}

function namesOf(members: readonly ts.TypeElement[]): readonly string[] {
  return members.filter(ts.isPropertySignature).map((member) => `${member.name.getText()}${member.questionToken === undefined ? '' : '?'}`);
}

/** On one line, safe in a table cell. */
function firstParagraph(comment: string): string {
  const paragraph = comment.split(/\n\s*\n/)[0] ?? '';
  return paragraph.replaceAll(/\s+/g, ' ').replaceAll(/\{@link (\w+)\}/g, '`$1`').replaceAll('|', '\\|').trim();
}

function parse(file: string, text: string): ts.SourceFile {
  return ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true);
}
