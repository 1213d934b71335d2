/** Bytes that can be read in pieces: an array, a file, an address. */
export interface ByteSource {
  /** Of the whole. */
  size(): Promise<number>;
  /** `length` bytes from `start`. Rejects with `invalid-file` where there are fewer. */
  read(start: number, length: number): Promise<Uint8Array>;
  /** Gives back what is open. May be called twice. */
  close(): Promise<void>;
}
