/** Most tokens that are drawn: a heat map of more would have cells smaller than a pixel or two. */
export const maxTokens = 128;

/** Words and signs of a text, in order: what stands between two spaces, with its punctuation apart. */
export function tokensOf(text: string): readonly string[] {
  return text.match(/[\p{L}\p{N}'’]+|[^\s\p{L}\p{N}]/gu) ?? [];
}
