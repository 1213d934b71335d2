/**
 * Module bytes → readable text. Expressions are folded into assignments (`$sum = f32x4.add($a, $b)`), blocks are indented,
 * and the names and comments of the custom sections stand where the emitter put them.
 */
import type { ByteReader } from './bytes.ts';
import { opcodes, type Opcode, type ValueType } from './opcodes.ts';
import { readModule, readType, type Code, type ModuleContent } from './read-module.ts';

const opcodesByBytes: ReadonlyMap<string, Opcode> = new Map([...opcodes.values()].map((row) => [row.bytes.join(' '), row]));

/**
 * Writes a module as text.
 * @param bytes a binary module, as `ModuleBuilder.bytes({ names: true })` makes it; without names, locals are numbered
 * @throws SyntaxError for bytes outside the table, RangeError for bytes that end early
 */
export function disassemble(bytes: Uint8Array): string {
  const content = readModule(bytes);
  const lines = [`module $${content.names.module}`, ...content.imports.map((line) => `  ${line}`)];
  content.codes.forEach((code, index) => {
    lines.push('', ...functionText(content, content.importedFunctions + index, code).map((line) => `  ${line}`));
  });
  if (content.data.length > 0) lines.push('', ...content.data.map((line) => `  ${line}`));
  return `${lines.join('\n')}\n`;
}

interface Listing {
  readonly lines: string[];
  /** Expressions that wait for their use. */
  readonly stack: string[];
  readonly labels: string[];
  temporaries: number;
}

function functionText(content: ModuleContent, index: number, { reader, start }: Code): string[] {
  const { names } = content;
  const type = content.types[content.functionTypes[index] ?? 0] ?? { parameters: [], results: [] };
  const localTypes: ValueType[] = [...type.parameters];
  for (let runs = reader.unsigned(); runs > 0; runs -= 1) {
    const count = reader.unsigned();
    const run = readType(reader);
    for (let one = 0; one < count; one += 1) localTypes.push(run);
  }
  const local = (at: number): string => `$${names.locals.get(index)?.get(at) ?? at}`;
  const title = [
    `function $${names.functions.get(index) ?? index}`,
    ...type.parameters.map((parameter, at) => `(${local(at)} ${parameter})`),
    ...type.results.map((result) => `→ ${result}`),
    ...(content.exports.has(index) ? [`export "${content.exports.get(index)}"`] : []),
  ];
  const declared = localTypes.map((one, at) => `${local(at)} ${one}`).slice(type.parameters.length);
  const listing: Listing = { lines: [title.join(' ')], stack: [], labels: ['return'], temporaries: 0 };
  if (declared.length > 0) line(listing, `local ${declared.join(', ')}`);
  let labelCount = 0;
  const nextLabel = (): string => {
    const name = names.labels.get(index)?.get(labelCount) ?? `${labelCount}`;
    labelCount += 1;
    return `$${name}`;
  };
  while (!reader.done) {
    for (const comment of names.comments.get(index)?.get(reader.position - start) ?? []) {
      spill(listing);
      line(listing, `;; ${comment}`);
    }
    instructionText({ reader, listing, content, local, nextLabel });
  }
  return listing.lines;
}

interface Context {
  readonly reader: ByteReader;
  readonly listing: Listing;
  readonly content: ModuleContent;
  readonly local: (index: number) => string;
  readonly nextLabel: () => string;
}

function instructionText({ reader, listing, content, local, nextLabel }: Context): void {
  const row = readOpcode(reader);
  const { stack, labels } = listing;
  const pop = (): string => stack.pop() ?? '…';
  const target = (): string => labels.at(-1 - reader.unsigned()) ?? '?';
  switch (row.name) {
    case 'block':
    case 'loop':
    case 'if': {
      const condition = row.name === 'if' ? ` ${pop()}` : '';
      reader.byte();
      const label = nextLabel();
      statement(listing, row.name === 'if' ? `if${condition}` : `${row.name} ${label}`);
      labels.push(label);
      return;
    }
    case 'else': {
      const label = labels.pop() ?? '';
      statement(listing, 'else');
      labels.push(label);
      return;
    }
    case 'end':
      if (labels.length === 1) {
        for (const result of stack.splice(0)) line(listing, `result ${result}`);
        labels.pop();
        return;
      }
      labels.pop();
      statement(listing, 'end');
      return;
    case 'br':
      statement(listing, `br ${target()}`);
      return;
    case 'br_if': {
      const condition = pop();
      statement(listing, `br_if ${target()} ${condition}`);
      return;
    }
    case 'br_table': {
      const index = pop();
      const targets = Array.from({ length: reader.unsigned() + 1 }, target);
      statement(listing, `br_table ${index} ${targets.join(' ')}`);
      return;
    }
    case 'return':
      line(listing, ['return', ...stack.splice(0)].join(' '));
      return;
    case 'call': {
      const index = reader.unsigned();
      const type = content.types[content.functionTypes[index] ?? 0];
      const parameters = type?.parameters ?? [];
      const operands = stack.splice(Math.max(0, stack.length - parameters.length));
      const text = `$${content.names.functions.get(index) ?? index}(${operands.join(', ')})`;
      if (type?.results.length === 1) {
        spill(listing);
        stack.push(text);
      } else statement(listing, text);
      return;
    }
    case 'drop':
      statement(listing, `drop ${pop()}`);
      return;
    case 'select': {
      const condition = pop();
      const whenFalse = pop();
      stack.push(`select(${pop()}, ${whenFalse}, ${condition})`);
      return;
    }
    case 'local.get':
      stack.push(local(reader.unsigned()));
      return;
    case 'local.set': {
      const value = pop();
      statement(listing, `${local(reader.unsigned())} = ${value}`);
      return;
    }
    case 'local.tee': {
      const value = pop();
      stack.push(`(${local(reader.unsigned())} := ${value})`);
      return;
    }
    default:
      plainText(row, reader, listing);
  }
}

function plainText(row: Opcode, reader: ByteReader, listing: Listing): void {
  const immediates = immediateText(row, reader);
  const { stack } = listing;
  const count = row.operands.length;
  const operands = stack.splice(Math.max(0, stack.length - count));
  while (operands.length < count) operands.unshift('…');
  const [result] = row.results;
  if (row.name.endsWith('.const') && row.name !== 'v128.const') {
    stack.push(row.name === 'i32.const' ? immediates.join('') : `${row.name.slice(0, 3)}:${immediates.join('')}`);
    return;
  }
  const text = `${row.name}(${[...operands, ...immediates].join(', ')})`;
  if (result === undefined) statement(listing, operands.length === 0 ? row.name : text);
  else stack.push(text);
}

function immediateText(row: Opcode, reader: ByteReader): string[] {
  if (row.immediate.startsWith('memory')) {
    reader.unsigned();
    const offset = reader.unsigned();
    const parts = offset === 0 ? [] : [`offset=${offset}`];
    return row.immediate.endsWith('lane') ? [...parts, `lane=${reader.byte()}`] : parts;
  }
  switch (row.immediate) {
    case 'lane':
      return [`lane=${reader.byte()}`];
    case 'shuffle':
      return [Array.from(reader.bytes(16)).join(' ')];
    case 'i32':
      return [`${reader.signed()}`];
    case 'i64':
      return [`${reader.signed64()}`];
    case 'f32':
      return [`${reader.float32()}`];
    case 'f64':
      return [`${reader.float64()}`];
    case 'v128':
      return [vectorText(reader.bytes(16))];
    case 'zero':
      reader.byte();
      return [];
    case 'zero zero':
      reader.bytes(2);
      return [];
    default:
      return [];
  }
}

/** A splat of a float that is short to write is shown as such; other vectors as four 32-bit words. */
function vectorText(bytes: Uint8Array): string {
  const words = new Uint32Array(bytes.slice().buffer);
  const [float = 0] = new Float32Array(words.buffer);
  const [first = 0] = words;
  if (!words.every((word) => word === first)) {
    return Array.from(words, (word) => `0x${word.toString(16).padStart(8, '0')}`).join(' ');
  }
  const readable = Number.isFinite(float) && (float === 0 || (Math.abs(float) > 1e-30 && Math.abs(float) < 1e30));
  return readable ? `f32x4 ${Number(float.toPrecision(9))}` : `i32x4 0x${first.toString(16).padStart(8, '0')}`;
}

function readOpcode(reader: ByteReader): Opcode {
  const first = reader.byte();
  const bytes = [first];
  if (first >= 0xfc) {
    do bytes.push(reader.byte());
    while ((bytes.at(-1) ?? 0) >= 0x80);
  }
  const row = opcodesByBytes.get(bytes.join(' '));
  if (row === undefined) {
    throw new SyntaxError(`opcode ${bytes.map((byte) => `0x${byte.toString(16)}`).join(' ')} is not in the table`);
  }
  return row;
}

function line({ lines, labels }: Listing, text: string): void {
  lines.push(`${'  '.repeat(labels.length)}${text}`);
}

/** A statement ends the expressions that were begun before it, so that the text keeps the order of effects. */
function statement(listing: Listing, text: string): void {
  spill(listing);
  line(listing, text);
}

function spill(listing: Listing): void {
  listing.stack.forEach((expression, index) => {
    if (/^%\d+$/.test(expression) || /^-?[\w.:]+$/.test(expression)) return;
    const temporary = `%${listing.temporaries}`;
    listing.temporaries += 1;
    line(listing, `${temporary} = ${expression}`);
    listing.stack[index] = temporary;
  });
}
