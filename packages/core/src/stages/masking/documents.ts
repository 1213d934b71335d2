import type { Masking } from './stage.ts';
import { mask } from './stage.ts';

export interface DocumentsOptions {
  /** Name of the i32 table [batch, queryLength] with the document of each query row. Default 'queryDocuments'. */
  readonly queryTable?: string;
  /** Name of the i32 table [batch, keyLength] with the document of each key row. Default 'keyDocuments'. */
  readonly keyTable?: string;
}

/** Query and key belong to the same document, by the numbers in two tables; self-attention binds the same tensor to both. */
export function documents(options: DocumentsOptions = {}): Masking {
  const { queryTable = 'queryDocuments', keyTable = 'keyDocuments' } = options;
  return mask('documents', ({ batch, queryIndex, keyIndex, table }) =>
    table(queryTable, ['batch', 'queryLength'], 'i32').at(batch, queryIndex).eq(table(keyTable, ['batch', 'keyLength'], 'i32').at(batch, keyIndex)));
}
