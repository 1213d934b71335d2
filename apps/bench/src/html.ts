/** Text that is safe to put into a page as it is. */
export interface Html {
  readonly text: string;
}

type Part = Html | readonly Html[] | string | number | null;

/** A tagged template: strings and numbers are escaped, Html is put in as it is, null is nothing. */
export function html(strings: TemplateStringsArray, ...parts: readonly Part[]): Html {
  return { text: strings.map((string, index) => string + textOf(parts[index] ?? null)).join('') };
}

/** Markup made elsewhere, such as SVG or CSS, put in as it is. */
export function markup(text: string): Html {
  return { text };
}

function textOf(part: Part): string {
  if (part === null) return '';
  if (typeof part === 'string' || typeof part === 'number') return escapeHtml(String(part));
  return 'text' in part ? part.text : part.map(({ text }) => text).join('');
}

const entities: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => entities[character] ?? '');
}
