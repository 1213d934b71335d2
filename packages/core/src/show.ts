/** Any value as short text for a message; never throws, whatever the value is. */
export function show(value: unknown): string {
  if (typeof value === 'string') return `'${value.length > 40 ? `${value.slice(0, 40)}…` : value}'`;
  if (typeof value === 'function') return 'a function';
  if (typeof value !== 'object' || value === null) return String(value);
  if (ArrayBuffer.isView(value)) return `a view of ${value.byteLength} bytes`;
  if (!Array.isArray(value)) return 'an object';
  const items: readonly unknown[] = value.slice(0, 8);
  const text = items.map((item) => (typeof item === 'number' ? String(item) : typeof item)).join(', ');
  return `[${text}${value.length > items.length ? ', …' : ''}]`;
}
