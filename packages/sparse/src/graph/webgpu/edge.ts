import type { RowKernel } from '@heed/runtime-webgpu';

/** The edge at `place`: what expressions over pairs read of it. */
export function writeEdge({ writer }: RowKernel): void {
  writer.line('let keyIndex = integers[keysAt + place];', 'let keyPosition = positionAt(sequence.keyPositions, sequence.keyOffset, keyIndex);', 'let edgeIndex = i32(firstEdge + place);');
}

/** The bits of a number, or those of 0 or −∞ for a row that sees nothing; −∞ is written as bits alone. */
export function orEmpty(value: string, empty: '0u' | '0xff800000u', condition: string): string {
  return `select(bitcast<u32>(${value}), ${empty}, ${condition})`;
}
