/** What plots are drawn on in Node has its own document; a page has one already. */
export function parseHTML(): { readonly document: Document } {
  return { document };
}
