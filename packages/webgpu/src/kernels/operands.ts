import type { Operand, Plan } from '../plan.ts';
import type { StorageBinding } from './module.ts';

/** The sides whose rows kernels over pairs read. */
export type OperandName = 'query' | 'key' | 'value';

/** How rows of an operand are bound and read: whole vectors where their dim is a multiple of four, else element by element. */
interface OperandForm {
  /** Type of the array's elements. */
  readonly element: string;
  /** Four channels from 4 · quad on, as f32, of the row that begins at `row` rows. */
  readonly quad: string;
  /** One channel. */
  readonly one: string;
}

/** The storage binding of an operand. */
export function operandBinding(name: OperandName, plan: Plan, comment: string): StorageBinding {
  return { name, element: formOf(name, plan.operands[name], plan.float16).element, comment: `${plan.operands[name].dtype} ${comment}` };
}

/** True when the module needs `enable f16`. */
export function readsFloat16({ operands, float16 }: Plan): boolean {
  return float16 && Object.values(operands).some(({ dtype }) => dtype === 'f16');
}

/** Functions `<name>Quad(row, quad)` and `<name>Element(row, channel)` that read an operand as float32. */
export function operandReads(name: OperandName, plan: Plan, which: readonly ('quad' | 'element')[]): readonly string[] {
  const operand = plan.operands[name];
  const { quad, one } = formOf(name, operand, plan.float16);
  const reads = {
    quad: `// Channels 4 · quad … 4 · quad + 3 of a row of ${name}${operand.dim % 4 === 0 ? '' : '; 0 past the last'}.\nfn ${name}Quad(row: u32, quad: u32) -> vec4<f32> {\n  ${quad}\n}`,
    element: `fn ${name}Element(row: u32, channel: u32) -> f32 {\n  ${one}\n}`,
  };
  return which.flatMap((kind) => [reads[kind], '']);
}

function formOf(name: OperandName, { dtype, dim }: Operand, float16: boolean): OperandForm {
  const whole = dim % 4 === 0;
  const at = whole ? `${name}[row * ${dim / 4}u + quad]` : '';
  if (dtype === 'f32' || (dtype === 'f16' && float16)) {
    if (!whole) return { element: dtype, one: `return f32(${name}[row * ${dim}u + channel]);`, quad: byElements(name, dim) };
    return {
      element: `vec4<${dtype}>`,
      quad: `return ${dtype === 'f32' ? at : `vec4<f32>(${at})`};`,
      one: `return f32(${name}[row * ${dim / 4}u + channel / 4u][channel % 4u]);`,
    };
  }
  const pair = (word: string): string => (dtype === 'f16' ? `unpack2x16float(${word})` : `bitcast<vec2<f32>>(vec2<u32>(${word} << 16u, ${word} & 0xffff0000u))`);
  if (!whole) {
    return { element: 'u32', one: [`let place = row * ${dim}u + channel;`, `let word = ${name}[place / 2u];`, `return ${pair('word')}[place % 2u];`].join('\n  '), quad: byElements(name, dim) };
  }
  return {
    element: 'vec2<u32>',
    quad: [`let words = ${at};`, `return vec4<f32>(${pair('words.x')}, ${pair('words.y')});`].join('\n  '),
    one: [`let word = ${name}[row * ${dim / 4}u + channel / 4u][channel / 2u % 2u];`, `return ${pair('word')}[channel % 2u];`].join('\n  '),
  };
}

/** A quad of a row whose width is no multiple of four: rows do not begin at whole vectors, and the last quad is not full. */
function byElements(name: OperandName, dim: number): string {
  const first = 'let channel = 4u * quad;';
  const elements = [0, 1, 2, 3].map((place) => {
    const read = `${name}Element(row, ${place === 0 ? 'channel' : `channel + ${place}u`})`;
    return place === 0 ? read : `select(0.0f, ${read}, channel + ${place}u < ${dim}u)`;
  });
  return `${first}\n  return vec4<f32>(${elements.join(', ')});`;
}
