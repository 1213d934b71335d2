/** Lines of WGSL, indented by the braces that are open. */
export class WgslWriter {
  readonly #lines: string[] = [];
  #depth = 0;

  /** One statement or declaration a line. A line that ends in `{` opens, one that begins with `}` closes. */
  line(...lines: readonly string[]): this {
    for (const line of lines) {
      if (line.startsWith('}')) this.#depth -= 1;
      this.#lines.push(line === '' ? '' : `${'  '.repeat(this.#depth)}${line}`);
      if (line.endsWith('{')) this.#depth += 1;
    }
    return this;
  }

  /** A head line, what stands within its braces, and the closing brace. */
  block(head: string, body: () => void): this {
    this.line(`${head} {`);
    body();
    return this.line('}');
  }

  /** An empty line and a comment: what the next lines are about. */
  section(comment: string): this {
    if (this.#lines.at(-1)?.endsWith('{') !== true && this.#lines.length > 0) this.line('');
    return this.line(`// ${comment}`);
  }

  toString(): string {
    return `${this.#lines.join('\n')}\n`;
  }
}

/** A number as an f32 literal; ±∞, which WGSL has no literal for, as the largest finite number. */
export function f32Literal(value: number): string {
  const rounded = Math.fround(value);
  if (rounded === Infinity) return '3.4028234663852886e38f';
  if (rounded === -Infinity) return '-3.4028234663852886e38f';
  const text = String(rounded);
  return /[.e]/.test(text) ? `${text}f` : `${text}.0f`;
}

/** A name of a table or uniform as an identifier; `prefix_` keeps it apart from words of the language. */
export function identifier(prefix: string, name: string): string {
  return `${prefix}_${name.replace(/[^A-Za-z0-9]+/g, '_')}`;
}
