/** One name in the three ways that files and code need it. */
export interface Names {
  /** my-modifier: files and packages. */
  readonly kebab: string;
  /** myModifier: functions. */
  readonly camel: string;
  /** MyModifier: types and classes. */
  readonly pascal: string;
}

/** Words that no function of a module can be called: reserved, or reserved in modules. */
const reserved: ReadonlySet<string> = new Set(
  ('arguments await break case catch class const continue debugger default delete do else enum eval export extends false finally for function if implements import in instanceof interface let new null package private ' +
    'protected public return static super switch this throw true try typeof undefined var void while with yield').split(' '),
);

/** @throws Error when it is not words of letters and digits joined by hyphens, or a reserved word */
export function namesOf(kebab: string): Names {
  if (!/^[a-z][a-z0-9]*(-[a-z0-9]+)*$/.test(kebab)) throw new Error(`Got the name '${kebab}'. Expected lower-case words joined by hyphens, as in my-modifier.`);
  if (reserved.has(kebab)) throw new Error(`Got the name '${kebab}', which JavaScript reserves. Choose another name.`);
  const pascal = kebab.replaceAll(/(^|-)([a-z0-9])/g, (_match, _hyphen, letter: string) => letter.toUpperCase());
  return { kebab, pascal, camel: pascal.charAt(0).toLowerCase() + pascal.slice(1) };
}

/** A template's text with __kebab__, __camel__ and __Pascal__ filled in. */
export function fill(template: string, names: Names): string {
  return template.replaceAll('__kebab__', names.kebab).replaceAll('__camel__', names.camel).replaceAll('__Pascal__', names.pascal);
}
