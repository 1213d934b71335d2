import type { Tensor } from '@heed/core';
import { bytesPerElement, elementCount, isContiguous } from '@heed/core';
import type { WgslWriter } from '../wgsl/writer.ts';
import type { ElementShader, OperationCall } from './context.ts';
import { storageOf } from './storage.ts';

/** The elements of a view, row-major, to a buffer of the same dtype; bit by bit. */
export function packView(call: OperationCall, view: Tensor, target: GPUBuffer): void {
  const { perWord } = storageOf(view.dtype);
  const { buffer, start } = call.runtime.placeOf(view);
  const elements = elementCount(view.shape);
  const bytes = contiguousBytes(view, start);
  if (bytes !== null) {
    call.runtime.copyBytes(buffer, target, 0, bytes.size, bytes.offset);
    return;
  }
  call.run(packShader(perWord, view.shape.length), Math.ceil(elements / perWord), [elements, start, ...view.shape, ...view.strides], [buffer], target);
}

/** A buffer of dense elements, row-major, to the places of a view of the same dtype; what lies between them stays. */
export function unpackInto(call: OperationCall, source: GPUBuffer, view: Tensor): void {
  const { perWord } = storageOf(view.dtype);
  const { buffer, start } = call.runtime.placeOf(view);
  const bytes = contiguousBytes(view, start);
  if (bytes !== null) {
    call.runtime.copyBytes(source, buffer, bytes.offset, bytes.size);
    return;
  }
  call.run(unpackShader(perWord, view.shape.length), elementCount(view.shape), [start, ...view.shape, ...view.strides], [source], buffer);
}

/** Where a view lies whose elements follow one another, in whole words: such a one is copied as it is, whatever a binding may hold. Null for others. */
function contiguousBytes(view: Tensor, start: number): { readonly offset: number; readonly size: number } | null {
  const width = bytesPerElement[view.dtype];
  const [offset, size] = [start * width, elementCount(view.shape) * width];
  return isContiguous(view) && offset % 4 === 0 && size % 4 === 0 ? { offset, size } : null;
}

const axisFields = (rank: number): readonly (readonly [string, 'u32'])[] =>
  (['size', 'stride'] as const).flatMap((name) => Array.from({ length: rank }, (_, axis) => [`${name}${axis}`, 'u32'] as const));

/** `origin`: where element `element` of the view stands in its buffer. */
function writeOrigin(writer: WgslWriter, rank: number): void {
  writer.line('var rest = element;', 'var origin = parameters.start;');
  for (let axis = rank - 1; axis >= 0; axis -= 1) {
    writer.line(`origin += (rest % parameters.size${axis}) * parameters.stride${axis};`, `rest /= parameters.size${axis};`);
  }
}

function packShader(perWord: number, rank: number): ElementShader {
  const bits = 32 / perWord;
  return {
    name: `pack a view of rank ${rank}, ${perWord} elements a word`,
    reads: { x: 'u32' },
    result: 'u32',
    fields: [['elements', 'u32'], ['start', 'u32'], ...axisFields(rank)],
    body: (writer) => {
      writer.line('var word = 0u;');
      writer.block(`for (var lane = 0u; lane < ${perWord}u; lane++)`, () => {
        writer.line(`let element = min(place * ${perWord}u + lane, parameters.elements - 1u);`);
        writeOrigin(writer, rank);
        writer.line(`word |= extractBits(x[origin / ${perWord}u], ${bits}u * (origin % ${perWord}u), ${bits}u) << (${bits}u * lane);`);
      });
      writer.line('result[place] = word;');
    },
  };
}

/** Elements that share a word are written by different invocations: each clears and sets its own bits. */
function unpackShader(perWord: number, rank: number): ElementShader {
  const bits = 32 / perWord;
  return {
    name: `unpack into a view of rank ${rank}, ${perWord} elements a word`,
    reads: { x: 'u32' },
    result: perWord === 1 ? 'u32' : 'atomic<u32>',
    fields: [['start', 'u32'], ...axisFields(rank)],
    body: (writer) => {
      writer.line('let element = place;');
      writeOrigin(writer, rank);
      if (perWord === 1) {
        writer.line('result[origin] = x[element];');
        return;
      }
      writer.line(`let shift = ${bits}u * (origin % ${perWord}u);`, `let bits = extractBits(x[element / ${perWord}u], ${bits}u * (element % ${perWord}u), ${bits}u);`);
      writer.line(`atomicAnd(&result[origin / ${perWord}u], ~(${2 ** bits - 1}u << shift));`, `atomicOr(&result[origin / ${perWord}u], bits << shift);`);
    },
  };
}
