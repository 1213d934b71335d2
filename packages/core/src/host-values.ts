import type { BoundCall, BoundSequence, BoundTable } from './bind.ts';
import { AttentionError } from './errors.ts';
import type { Environment } from './expression/evaluate.ts';
import { evaluate } from './expression/evaluate.ts';
import type { Expression } from './expression/node.ts';
import { randomKey } from './expression/random.ts';
import type { RandomStream } from './pairs.ts';
import type { RowTransform } from './stages/transforms/transform.ts';
import { isHostTensor, reader } from './tensor.ts';

/** The part of a call that holds values. */
export type CallValues = Pick<BoundCall, 'uniforms' | 'tables' | 'heads' | 'keyHeads' | 'headOffset'>;

/** What the host computes in float64 for kernels of any runtime: numbers by head, by row and by sequence. Tables that it reads stand on the host. */
export class HostValues {
  readonly #call: CallValues;
  readonly #readers = new Map<string, (index: number) => number>();

  constructor(call: CallValues) {
    this.#call = call;
  }

  /** An expression that reads uniforms, tables and perhaps head and batch. */
  scalar(expression: Expression, place: { readonly head?: number; readonly batch?: number } = {}): number {
    const { uniforms, heads, keyHeads } = this.#call;
    const { head = 0, batch = 0 } = place;
    const environment: Environment = {
      input: (name) => (name === 'head' ? head : name === 'keyHead' ? Math.floor((head * keyHeads) / heads) : name === 'batch' ? batch : Number.NaN),
      uniform: (name) => uniforms[name] ?? Number.NaN,
      table: (name, indices) => this.element(name, indices),
      queryTable: () => Number.NaN,
      random: () => Number.NaN,
    };
    return evaluate(expression, environment);
  }

  element(name: string, indices: readonly number[]): number {
    const table = this.#call.tables[name];
    if (table === undefined) throw new AttentionError('missing-table', `Table '${name}' is not bound.`, `Pass it in { tables: { '${name}': … } }.`);
    return this.#reader(name, table)(indices.reduce((sum, index, axis) => sum + index * (table.strides[axis] ?? 0), 0));
  }

  #reader(name: string, { tensor }: BoundTable): (index: number) => number {
    const known = this.#readers.get(name);
    if (known !== undefined) return known;
    if (!isHostTensor(tensor)) throw new AttentionError('foreign-tensor', `Table '${name}' lives where the host cannot see it.`, 'Read it to the host first.');
    const read = reader(tensor.dtype, tensor.view());
    this.#readers.set(name, read);
    return read;
  }

  /** One logit for each head, −∞ where there is no sink. */
  sinks(sink: Expression | null, batch: number): Float32Array {
    return Float32Array.from({ length: this.#call.heads }, (_, head) => (sink === null ? -Infinity : this.scalar(sink, { head, batch })));
  }

  /** Two words for each head and stream. */
  randomKeys(streams: readonly RandomStream[], sequence: BoundSequence): Int32Array {
    const { heads, headOffset, uniforms } = this.#call;
    const keys = new Int32Array(heads * streams.length * 2);
    for (let head = 0; head < heads; head += 1) {
      streams.forEach(([seed, stream], index) => {
        keys.set(randomKey(uniforms[seed] ?? 0, stream, sequence.id, head + headOffset), (head * streams.length + index) * 2);
      });
    }
    return keys;
  }

  /**
   * Cosines and sines of a row transform, by row: [rows][2][width] of a rotation, the sines signed for each channel's partner; [rows][2] of a cosine map.
   * Null for a transform that needs none. Angles are float64 (L3: positions may be large).
   */
  turns(transform: RowTransform, dim: number, positions: ArrayLike<number>): Float32Array | null {
    if (transform.kind === 'featureMap' && transform.map.rule === 'cosformer') {
      const horizon = this.scalar(transform.map.horizon);
      return Float32Array.from({ length: positions.length * 2 }, (_, place) => {
        const angle = (Math.PI * (positions[place >> 1] ?? 0)) / (2 * horizon);
        return place % 2 === 0 ? Math.cos(angle) : Math.sin(angle);
      });
    }
    if (transform.kind !== 'rope') return null;
    const width = transform.width ?? dim;
    const base = this.scalar(transform.base);
    const magnitude = this.scalar(transform.magnitude);
    const { frequencies } = transform;
    const result = new Float32Array(positions.length * 2 * width);
    // Loops without closures: a step of a decode makes one row of these for each layer.
    const [step, apart] = transform.pairing === 'half' ? [1, width / 2] : [2, 1];
    for (let pair = 0; pair < width / 2; pair += 1) {
      const speed = frequencies === null ? base ** ((-2 * pair) / width) : this.element(frequencies, [pair]);
      for (let row = 0; row < positions.length; row += 1) {
        const angle = (positions[row] ?? 0) * speed;
        const cos = magnitude * Math.cos(angle);
        const sin = magnitude * Math.sin(angle);
        const first = row * 2 * width + pair * step;
        result[first] = cos;
        result[first + apart] = cos;
        result[first + width] = -sin;
        result[first + width + apart] = sin;
      }
    }
    return result;
  }
}
