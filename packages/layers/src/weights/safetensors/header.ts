import { AttentionError, bytesPerElement, elementCount, tensor, type DType, type HostTensor } from '@heed/core';

/** Bytes before the JSON header. */
export const prefixBytes = 8;

/** Longest header that is read; the format's own limit. */
export const maxHeaderBytes = 100_000_000;

/** One tensor as the header describes it. */
export interface TensorEntry {
  readonly name: string;
  /** As the file writes it: 'F32', 'BF16', 'I64', … */
  readonly fileDtype: string;
  readonly shape: readonly number[];
  /** Bytes from the start of the buffer, end excluded. */
  readonly begin: number;
  readonly end: number;
}

/** What a header says. */
export interface Header {
  /** In the order of their bytes. */
  readonly entries: readonly TensorEntry[];
  /** The file's own remarks, text by name. */
  readonly metadata: ReadonlyMap<string, string>;
}

// Bits of one element. Types without a row in `coreDtypes` are checked and skipped over, but cannot be read.
const elementBits: ReadonlyMap<string, number> = new Map([
  ...([['BOOL', 8], ['U8', 8], ['I8', 8], ['F8_E5M2', 8], ['F8_E4M3', 8], ['F8_E8M0', 8]] as const),
  ...([['U16', 16], ['I16', 16], ['F16', 16], ['BF16', 16], ['U32', 32], ['I32', 32], ['F32', 32]] as const),
  ...([['U64', 64], ['I64', 64], ['F64', 64], ['C64', 64], ['F4', 4], ['F6_E2M3', 6], ['F6_E3M2', 6]] as const),
]);

/** Types of the file that heed holds. */
export const coreDtypes: ReadonlyMap<string, DType> = new Map([
  ['F64', 'f64'],
  ['F32', 'f32'],
  ['F16', 'f16'],
  ['BF16', 'bf16'],
  ['I32', 'i32'],
  ['I8', 'i8'],
  ['U8', 'u8'],
  ['BOOL', 'u8'],
]);

/**
 * Length of the JSON header.
 *
 * @param prefix the first 8 bytes of the file, fewer if it is shorter
 * @param fileBytes size of the whole file
 * @throws AttentionError `invalid-file`
 */
export function headerLength(prefix: Uint8Array, fileBytes: number): number {
  if (prefix.byteLength < prefixBytes) throw broken(`The file ends after ${prefix.byteLength} bytes; its header length alone takes ${prefixBytes}.`);
  const length = new DataView(prefix.buffer, prefix.byteOffset, prefixBytes).getBigUint64(0, true);
  if (length > BigInt(maxHeaderBytes)) throw broken(`Its header claims ${length} bytes; at most ${maxHeaderBytes} are allowed.`);
  if (prefixBytes + Number(length) > fileBytes) {
    throw broken(`Its header claims ${length} bytes, but the file ends ${fileBytes - prefixBytes} bytes after the header length.`);
  }
  return Number(length);
}

/**
 * The tensors that a header describes, in the order of their bytes.
 *
 * A key that the JSON repeats leaves a gap in the buffer, so it is refused with the gaps.
 *
 * @param header    the JSON text as UTF-8
 * @param dataBytes size of the buffer behind it
 * @throws AttentionError `invalid-file`
 */
export function parseHeader(header: Uint8Array, dataBytes: number): Header {
  const fields = Object.entries(parseObject(header));
  const metadata = new Map(fields.filter(([name]) => name === '__metadata__').flatMap(([, value]) => Object.entries(textMap(value))));
  const entries = fields
    .filter(([name]) => name !== '__metadata__')
    .map(([name, value]) => parseEntry(name, value))
    .sort((a, b) => a.begin - b.begin || a.end - b.end);
  let position = 0;
  for (const entry of entries) {
    if (entry.begin !== position) {
      const problem = entry.begin < position ? 'overlaps the tensor before it' : 'leaves a gap before it';
      throw broken(`Tensor '${entry.name}' begins at byte ${entry.begin} and ${problem}, which ends at ${position}.`);
    }
    position = entry.end;
  }
  if (position !== dataBytes) throw broken(`Its tensors end at byte ${position} of the buffer, which has ${dataBytes} bytes.`);
  return { entries, metadata };
}

function parseObject(header: Uint8Array): object {
  let parsed: unknown;
  try {
    parsed = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(header));
  } catch (cause) {
    throw broken('Its header is not JSON in UTF-8.', cause);
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) throw broken('Its header is not a JSON object.');
  return parsed;
}

function textMap(value: unknown): Readonly<Record<string, string>> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value) && Object.values(value).every((text) => typeof text === 'string')) return value as Readonly<Record<string, string>>;
  throw broken("Its '__metadata__' is not a map from text to text.");
}

function parseEntry(name: string, value: unknown): TensorEntry {
  const dtype: unknown = field(value, 'dtype');
  const shape: unknown = field(value, 'shape');
  const offsets: unknown = field(value, 'data_offsets');
  const bits = typeof dtype === 'string' ? elementBits.get(dtype) : undefined;
  if (typeof dtype !== 'string' || bits === undefined) throw broken(`Tensor '${name}' has dtype ${shown(dtype)}; expected one of ${[...elementBits.keys()].join(', ')}.`);
  if (!isSizes(shape)) throw broken(`Tensor '${name}' has shape ${shown(shape)}; expected a list of integers of 0 or more.`);
  if (!isSizes(offsets)) throw broken(`Tensor '${name}' has data_offsets ${shown(offsets)}; expected [begin, end].`);
  const [begin, end] = offsets;
  if (begin === undefined || end === undefined || offsets.length !== 2 || end < begin) {
    throw broken(`Tensor '${name}' has data_offsets ${shown(offsets)}; expected [begin, end] with begin ≤ end.`);
  }
  const bytes = (elementCount(shape) * bits) / 8;
  if (!Number.isSafeInteger(bytes) || bytes !== end - begin) {
    throw broken(`Tensor '${name}' of dtype ${dtype} and shape [${shape.join(', ')}] takes ${bytes} bytes; its data_offsets hold ${end - begin}.`);
  }
  return { name, fileDtype: dtype, shape, begin, end };
}

function field(value: unknown, key: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, key) ? Reflect.get(value, key) : undefined;
}

function isSizes(value: unknown): value is readonly number[] {
  return Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && size >= 0);
}

function shown(value: unknown): string {
  const text = JSON.stringify(value) as string | undefined;
  if (text === undefined) return 'nothing';
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}

export function broken(problem: string, cause?: unknown): AttentionError {
  return new AttentionError('invalid-file', `Not a safetensors file. ${problem}`, 'Write it again, or check that it was copied whole.', { cause });
}

/**
 * The tensor that an entry describes.
 *
 * @param bytes exactly the entry's bytes; copied, so that elements are aligned
 * @throws AttentionError `unsupported` for a type that heed cannot hold, such as I64
 */
export function decodeEntry(entry: TensorEntry, bytes: Uint8Array): HostTensor {
  const dtype = coreDtypes.get(entry.fileDtype);
  if (dtype === undefined) {
    throw new AttentionError('unsupported', `Tensor '${entry.name}' has dtype ${entry.fileDtype}.`, `Convert it to one of ${[...coreDtypes.keys()].join(', ')}.`);
  }
  const aligned = bytes.slice().buffer;
  const length = aligned.byteLength / bytesPerElement[dtype];
  switch (dtype) {
    case 'f64':
      return tensor(new Float64Array(aligned, 0, length), entry.shape);
    case 'f32':
      return tensor(new Float32Array(aligned, 0, length), entry.shape);
    case 'f16':
    case 'bf16':
      return tensor(new Uint16Array(aligned, 0, length), entry.shape, { dtype });
    case 'i32':
      return tensor(new Int32Array(aligned, 0, length), entry.shape);
    case 'i8':
      return tensor(new Int8Array(aligned, 0, length), entry.shape);
    case 'u8':
      return tensor(new Uint8Array(aligned, 0, length), entry.shape);
  }
}
