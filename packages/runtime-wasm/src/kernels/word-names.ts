/** Names of the words that emitters and hosts agree on, where a word stands for something of the variant. */
export const uniformWord = (name: string): string => `uniform ${name}`;
/** Address of a table's first entry. */
export const tableWord = (name: string): string => `table ${name}`;
/** Bytes from one entry of an axis to the next. */
export const tableStrideWord = (name: string, axis: number): string => `table ${name} axis ${axis}`;
/** Rows of a query table. */
export const queryTableRowsWord = (name: string): string => `rows of ${name}`;
/** Address of the host-made numbers of a row transform: cosines and sines by row. */
export const turnWord = (side: 'query' | 'key', index: number): string => `${side} turn ${index}`;
