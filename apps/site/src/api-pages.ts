import { existsSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import ts from 'typescript';

/** A page for each entry point of a package: everything that it exports, with its signature and its docstring. */
export interface ApiPage {
  /** `core`, `core-compute`, … */
  readonly name: string;
  /** `@heed/core/compute` */
  readonly title: string;
  readonly text: string;
}

interface Manifest {
  readonly name: string;
  readonly exports: Readonly<Record<string, string | { readonly '@heed/source'?: string }>>;
}

/** The pages of some packages, from their sources. */
export function apiPages(root: string, packages: readonly string[]): readonly ApiPage[] {
  const entries = packages.flatMap((folder) => entriesOf(join(root, 'packages', folder)));
  const program = ts.createProgram(entries.map(({ file }) => file), {
    target: ts.ScriptTarget.ES2023,
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
    customConditions: ['@heed/source'],
    allowImportingTsExtensions: true,
    noEmit: true,
    strict: true,
    skipLibCheck: true,
    types: [],
  });
  const checker = program.getTypeChecker();
  return entries.flatMap(({ title, file }) => {
    const source = program.getSourceFile(file);
    const module = source === undefined ? undefined : checker.getSymbolAtLocation(source);
    if (module === undefined) return [];
    const members = checker.getExportsOfModule(module).map((symbol) => memberOf(checker, symbol, root)).filter((member) => member !== null);
    return [{ name: title.replace('@heed/', '').replaceAll('/', '-'), title, text: pageOf(title, members) }];
  });
}

function entriesOf(folder: string): readonly { readonly title: string; readonly file: string }[] {
  const { name, exports } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Manifest;
  return Object.entries(exports).flatMap(([entry, target]) => {
    const source = typeof target === 'string' ? undefined : target['@heed/source'];
    const file = source === undefined ? '' : join(folder, source);
    return source?.endsWith('.ts') === true && existsSync(file) ? [{ title: join(name, entry), file }] : [];
  });
}

interface Member {
  readonly name: string;
  readonly kind: 'Functions' | 'Classes' | 'Values' | 'Types';
  readonly signature: string;
  readonly says: string;
  /** Below the repository. */
  readonly file: string;
}

function memberOf(checker: ts.TypeChecker, exported: ts.Symbol, root: string): Member | null {
  const symbol = (exported.flags & ts.SymbolFlags.Alias) === 0 ? exported : checker.getAliasedSymbol(exported);
  const declarations = symbol.declarations ?? [];
  const [first] = declarations;
  if (first === undefined) return null;
  const shared = { name: exported.name, says: docsOf(checker, symbol), file: relative(root, first.getSourceFile().fileName) };
  if (ts.isFunctionDeclaration(first)) {
    // Overloads stand in front of what implements them.
    const shown = declarations.filter(ts.isFunctionDeclaration);
    const signatures = shown.length > 1 ? shown.filter(({ body }) => body === undefined) : shown;
    return { ...shared, kind: 'Functions', signature: signatures.map(withoutBody).join('\n') };
  }
  if (ts.isClassDeclaration(first)) return { ...shared, kind: 'Classes', signature: classText(first) };
  if (ts.isVariableDeclaration(first)) return { ...shared, kind: 'Values', signature: `const ${exported.name}: ${first.type?.getText() ?? checker.typeToString(checker.getTypeAtLocation(first), first)}` };
  return { ...shared, kind: 'Types', signature: first.getText().replace(/^export /, '') };
}

function withoutBody(node: ts.FunctionDeclaration | ts.MethodDeclaration | ts.GetAccessorDeclaration | ts.ConstructorDeclaration): string {
  const text = node.body === undefined ? node.getText() : node.getSourceFile().text.slice(node.getStart(), node.body.getStart());
  return text.replace(/^export /, '').replace(/;$/, '').trimEnd();
}

/** What a caller sees of a class, one line each. */
function classText(node: ts.ClassDeclaration): string {
  const isHidden = (member: ts.ClassElement): boolean => (member.name !== undefined && ts.isPrivateIdentifier(member.name)) || ts.getJSDocTags(member).some(({ tagName }) => tagName.text === 'internal') || (ts.getCombinedModifierFlags(member) & ts.ModifierFlags.Private) !== 0;
  const members = node.members.filter((member) => !isHidden(member)).flatMap((member) => {
    if (ts.isMethodDeclaration(member) || ts.isGetAccessorDeclaration(member) || ts.isConstructorDeclaration(member)) return [withoutBody(member).replace(/^async /, '')];
    return ts.isPropertyDeclaration(member) ? [member.getText().replace(/ = [^]*$/, '').replace(/;$/, '')] : [];
  });
  return `class ${node.name?.text ?? ''} {\n${members.map((member) => `  ${member};`).join('\n')}\n}`;
}

function docsOf(checker: ts.TypeChecker, symbol: ts.Symbol): string {
  const tags = symbol.getJsDocTags(checker).flatMap(({ name, text }) => {
    const said = ts.displayPartsToString(text).trim();
    return said === '' || name === 'internal' ? [] : [`- *${name}* ${said}`];
  });
  return [ts.displayPartsToString(symbol.getDocumentationComment(checker)).trim(), tags.join('\n')].filter((part) => part !== '').join('\n\n');
}

function pageOf(title: string, members: readonly Member[]): string {
  const kinds = ['Functions', 'Classes', 'Values', 'Types'] as const;
  const parts = kinds.flatMap((kind) => {
    const own = members.filter((member) => member.kind === kind).sort((a, b) => (a.name < b.name ? -1 : 1));
    return own.length === 0 ? [] : [`## ${kind}`, ...own.map(({ name, signature, says, file }) => `### ${name}\n\n${escaped(says)}\n\n\`\`\`ts\n${signature}\n\`\`\`\n\n<small>${file}</small>`)];
  });
  return [`# ${title}`, ...parts, ''].join('\n\n');
}

/** Docstrings are prose: angle brackets in them are no elements, and braces no templates. Indented lines are code already. */
function escaped(text: string): string {
  return text.split('\n').map((line) => (line.startsWith('    ') ? line : line.replaceAll(/\{@link ([^}]+)\}/g, '`$1`').replaceAll('<', '&lt;').replaceAll('{{', '{ {'))).join('\n');
}
