/** What follows an opcode's bytes, written as the binary format wants it. */
import type { ByteWriter } from './bytes.ts';
import type { Immediates } from './instruction.ts';
import type { Opcode } from './opcodes.ts';

/** @returns what is wrong with the immediates; undefined when they were written */
export function writeImmediates(code: ByteWriter, row: Opcode, immediates: Immediates): string | undefined {
  if (row.immediate === '') return undefined;
  const { width } = row;
  if (width > 0) {
    const { offset = 0, lane = 0 } = immediates;
    if (!Number.isInteger(offset) || offset < 0 || offset >= 2 ** 32) return `offset ${offset} is not between 0 and 2³²`;
    // Atomics need the natural alignment; for the others it is a hint that every engine ignores.
    code.unsigned(31 - Math.clz32(width));
    code.unsigned(offset);
    return row.ofLane ? writeLane(code, lane, 16 / width) : undefined;
  }
  const { lane = 0, lanes = [], constant = 0 } = immediates;
  switch (row.immediate) {
    case 'lane':
      return writeLane(code, lane, Number(/x(\d+)/.exec(row.name)?.[1] ?? 0));
    case 'shuffle':
      if (lanes.length !== 16) return `expected 16 lanes, found ${lanes.length}`;
      return lanes.map((one) => writeLane(code, one, 32)).find((problem) => problem !== undefined);
    case 'i64':
      if (typeof constant !== 'bigint') return `expected a bigint, found ${typeof constant}`;
      code.signed64(constant);
      return undefined;
    case 'v128':
      if (!(constant instanceof Uint8Array) || constant.length !== 16) return 'expected 16 bytes';
      code.bytes(constant);
      return undefined;
    case 'zero':
      code.byte(0);
      return undefined;
    case 'zero zero':
      code.bytes([0, 0]);
      return undefined;
    case 'i32':
    case 'f32':
    case 'f64':
      if (typeof constant !== 'number') return `expected a number, found ${typeof constant}`;
      if (row.immediate === 'i32') code.signed(constant);
      else if (row.immediate === 'f32') code.float32(constant);
      else code.float64(constant);
      return undefined;
    default:
      return undefined;
  }
}

function writeLane(code: ByteWriter, lane: number, count: number): string | undefined {
  if (!Number.isInteger(lane) || lane < 0 || lane >= count) return `lane ${lane} is not below ${count}`;
  code.byte(lane);
  return undefined;
}
