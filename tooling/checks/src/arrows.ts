import ts from 'typescript';
import { posix } from 'node:path';

/** Core's two entries for those who describe and those who compute; its reference is for the suite alone. */
const core: readonly string[] = ['@heed/core', '@heed/core/compute'];

/**
 * Who may import whom. A package may import the ones listed here, by name or by entry point, and nothing else of the workspace.
 * Backends stand on core and a runtime, never on each other; a package without a row stands on core alone.
 */
export const arrows: Readonly<Record<string, readonly string[]>> = {
  core: [],
  'runtime-wasm': core,
  // Its optional peer brings WebGPU to Node.
  'runtime-webgpu': [...core, 'webgpu'],
  cpu: [...core, '@heed/runtime-wasm'],
  webgpu: [...core, '@heed/runtime-webgpu'],
  sparse: [...core, '@heed/runtime-wasm', '@heed/runtime-webgpu'],
  linear: [...core, '@heed/runtime-wasm', '@heed/runtime-webgpu'],
  layers: core,
  conformance: [...core, '@heed/core/reference'],
};

/** Packages that run on a host of their own accord may use what Node brings; the others are handed what they need. */
const platformUsers: ReadonlySet<string> = new Set(['runtime-wasm', 'runtime-webgpu', 'conformance']);

/** One import, as written. */
export interface Import {
  readonly specifier: string;
  readonly line: number;
  /** Erased before running: `import type` and `import('…')` in a type. */
  readonly typeOnly: boolean;
}

/** Every import of a module: static, re-exported, dynamic, in a type, and files named by `new URL('…', import.meta.url)`. */
export function importsOf(file: string, text: string): readonly Import[] {
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.Latest, false, ts.ScriptKind.TS);
  const imports: Import[] = [];
  const add = (node: ts.Node | undefined, typeOnly: boolean): void => {
    if (node === undefined || !ts.isStringLiteralLike(node)) return;
    imports.push({ specifier: node.text, line: source.getLineAndCharacterOfPosition(node.getStart(source)).line + 1, typeOnly });
  };
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node)) add(node.moduleSpecifier, node.importClause?.phaseModifier === ts.SyntaxKind.TypeKeyword);
    else if (ts.isExportDeclaration(node)) add(node.moduleSpecifier, node.isTypeOnly);
    else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) add(node.argument.literal, true);
    else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) add(node.arguments[0], false);
    else if (ts.isNewExpression(node) && isModuleUrl(node)) add(node.arguments?.[0], false);
    ts.forEachChild(node, visit);
  };
  visit(source);
  return imports;
}

function isModuleUrl(node: ts.NewExpression): boolean {
  const base = node.arguments?.[1];
  return (
    ts.isIdentifier(node.expression) && node.expression.text === 'URL' &&
    base !== undefined && ts.isPropertyAccessExpression(base) && base.name.text === 'url' && ts.isMetaProperty(base.expression)
  );
}

/** What is wrong with one import of `file` (a path below the repository, such as `packages/core/src/tensor.ts`). */
function problemOf(file: string, { specifier }: Import): string | undefined {
  const [, name = '', , ...inside] = file.split('/');
  const allowed = arrows[name] ?? core;
  if (specifier.startsWith('.')) {
    const target = posix.join(posix.dirname(file), specifier);
    if (!target.startsWith(`packages/${name}/src/`)) return 'leaves the source folder of its package';
    const reference = `packages/core/src/reference/`;
    if (target.startsWith(reference) && inside[0] !== 'reference') return 'core does not import its reference';
    return undefined;
  }
  if (specifier.startsWith('node:')) return platformUsers.has(name) ? undefined : `${name} runs anywhere: nothing of Node`;
  if (allowed.includes(specifier)) return undefined;
  return allowed.length === 0 ? `${name} imports nothing` : `${name} may import ${allowed.join(', ')} and nothing else`;
}

/**
 * Circles among the folders of a package. Files directly in `src` belong to no folder and stand for themselves, so that
 * `index.ts` may name every folder and every folder `errors.ts`. Types count between folders: a circle of types is a circle
 * for a reader. They do not count to or from the files in `src`, which are the vocabulary: a tensor names the runtime that
 * owns it, and the runtime's contract names tensors. What is reported is the shortest way round, once per circle.
 */
function circles(files: ReadonlyMap<string, readonly Import[]>): readonly string[] {
  const edges = new Map<string, Map<string, string>>();
  for (const [file, imports] of files) {
    for (const { specifier, line, typeOnly } of imports) {
      if (!specifier.startsWith('.')) continue;
      const from = placeOf(file);
      const to = placeOf(posix.join(posix.dirname(file), specifier));
      if (from === to || (typeOnly && (!isFolder(from) || !isFolder(to)))) continue;
      const targets = edges.get(from) ?? new Map<string, string>();
      edges.set(from, targets);
      if (!targets.has(to)) targets.set(to, `${file}:${line}`);
    }
  }
  const found = new Map<string, string>();
  for (const start of edges.keys()) {
    const way = shortestWayRound(start, edges);
    if (!way?.some(isFolder)) continue;
    const key = [...way].sort().join(' ');
    const steps = way.map((place, index) => {
      const next = way[index + 1] ?? start;
      return `${place} → ${next} (${edges.get(place)?.get(next) ?? ''})`;
    });
    found.set(key, `circle among folders: ${steps.join(', ')}`);
  }
  return [...found.values()];
}

function placeOf(file: string): string {
  const [group, name, source, ...inside] = file.split('/');
  return inside.length === 1 ? file : [group, name, source, ...inside.slice(0, -1)].join('/');
}

function isFolder(place: string): boolean {
  return !place.endsWith('.ts');
}

/** Breadth first from `start` back to itself: the places on the way, `start` first. */
function shortestWayRound(start: string, edges: ReadonlyMap<string, ReadonlyMap<string, string>>): readonly string[] | undefined {
  const cameFrom = new Map<string, string>();
  const queue = [start];
  for (let place = queue.shift(); place !== undefined; place = queue.shift()) {
    for (const next of edges.get(place)?.keys() ?? []) {
      if (next === start) {
        const way = [place];
        for (let back = cameFrom.get(place); back !== undefined; back = cameFrom.get(back)) way.unshift(back);
        return way;
      }
      if (cameFrom.has(next)) continue;
      cameFrom.set(next, place);
      queue.push(next);
    }
  }
  return undefined;
}

/** Everything wrong among the given files, path below the repository → text. One line each, with the place. */
export function arrowProblems(files: ReadonlyMap<string, string>): readonly string[] {
  const imports = new Map([...files].map(([file, text]) => [file, importsOf(file, text)]));
  const wrong = [...imports].flatMap(([file, list]) =>
    list.flatMap((entry) => {
      const problem = problemOf(file, entry);
      return problem === undefined ? [] : [`${file}:${entry.line} imports '${entry.specifier}': ${problem}`];
    }),
  );
  return [...wrong, ...circles(imports)];
}
