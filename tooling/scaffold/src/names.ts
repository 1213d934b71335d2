/** One name in the three ways that files and code need it. */
export interface Names {
  /** my-modifier: files and packages. */
  readonly kebab: string;
  /** myModifier: functions. */
  readonly camel: string;
  /** MyModifier: types and classes. */
  readonly pascal: string;
}

/** @throws Error when it is not words of letters and digits joined by hyphens */
export function namesOf(kebab: string): Names {
  if (!/^[a-z][a-z0-9]*(-[a-z0-9]+)*$/.test(kebab)) throw new Error(`Got the name '${kebab}'. Expected lower-case words joined by hyphens, as in my-modifier.`);
  const pascal = kebab.replaceAll(/(^|-)([a-z0-9])/g, (_match, _hyphen, letter: string) => letter.toUpperCase());
  return { kebab, pascal, camel: pascal.charAt(0).toLowerCase() + pascal.slice(1) };
}

/** A template's text with __kebab__, __camel__ and __Pascal__ filled in. */
export function fill(template: string, names: Names): string {
  return template.replaceAll('__kebab__', names.kebab).replaceAll('__camel__', names.camel).replaceAll('__Pascal__', names.pascal);
}
