/** Values gathered by weight: neighbouring lanes take neighbouring channels of one value, teams of them every team's edge. */
import type { AttentionRequest } from '@heed/core';
import type { RowKernel } from '@heed/runtime-webgpu';
import { orEmpty } from './edge.ts';
import { nodeLanes, type Plan } from './plan.ts';

export function writeAggregate(kernel: RowKernel, request: AttentionRequest, plan: Plan): void {
  const { writer } = kernel;
  writer.section('6  aggregate, 7  finish');
  writer.line('storageBarrier();', 'workgroupBarrier();');
  if (request.variant.aggregation.reduction === 'sum') writeSums(kernel, request, plan);
  else writeOtherReductions(kernel, request, plan);
}

function writeSums(kernel: RowKernel, request: AttentionRequest, plan: Plan): void {
  const { writer } = kernel;
  const { valueLanes, valueDim } = plan;
  const quads = Math.ceil(valueDim / 4);
  const parts = Array.from({ length: Math.ceil(quads / valueLanes) }, (_, part) => part);
  const quad = (part: number): string => (part === 0 ? 'valueLane' : `valueLane + ${part * valueLanes}u`);
  writer.line(`let valueLane = local % ${valueLanes}u;`, `let valueTeam = local / ${valueLanes}u;`);
  for (const part of parts) writer.line(`var own${part} = vec4<f32>(0.0f);`);
  writer.block(`for (var place = valueTeam; place < places; place += ${nodeLanes / valueLanes}u)`, () => {
    writer.line('let weight = scratch[scratchAt + place];');
    // What the mask forbids must not reach the sum as 0 · NaN (L10).
    writer.block('if (weight > lowest)', () => {
      writer.line('let valueRow = firstKeyRow + u32(integers[keysAt + place]);');
      for (const part of parts) writer.line(`own${part} += weight * valueQuad(valueRow, ${quads % valueLanes === 0 ? quad(part) : `min(${quad(part)}, ${quads - 1}u)`});`);
    });
  });
  for (const part of parts) {
    writer.line(`sums[local] = own${part};`, 'workgroupBarrier();');
    writer.block('if (valueTeam == 0u)', () => {
      writer.line('var sum = sums[local];');
      if (valueLanes < nodeLanes) writer.block(`for (var other = ${valueLanes}u; other < min(lanes, places * ${valueLanes}u); other += ${valueLanes}u)`, () => writer.line('sum += sums[other + local];'));
      writer.block('for (var turn = 0u; turn < 4u; turn++)', () => {
        writer.line(`let channel = i32(4u * (${quad(part)}) + turn);`);
        writer.block(`if (channel < ${valueDim}i)`, () => writeElement(kernel, request, plan, 'sum[turn]', '0u'));
      });
    });
    writer.line('workgroupBarrier();');
  }
}

/** Every lane reads the weights of the whole row, for its own channels. */
function writeOtherReductions(kernel: RowKernel, request: AttentionRequest, plan: Plan): void {
  const { writer, builtins } = kernel;
  const { aggregation, normalization } = request.variant;
  const isMaximum = aggregation.reduction === 'max';
  const overEdges = (step: string): void => {
    writer.block('for (var place = 0u; place < places; place++)', () => {
      writer.line('let share = scratch[scratchAt + place];');
      writer.block(isMaximum ? 'if (share > lowest)' : 'if (share > lowest && share != 0.0f)', () => {
        writer.line('let element = valueElement(firstKeyRow + u32(integers[keysAt + place]), u32(channel));', step);
      });
    });
  };
  writer.block(`for (var channel = i32(local); channel < ${plan.valueDim}i; channel += i32(lanes))`, () => {
    if (isMaximum) {
      writer.line('var reduced = -3.0e38f;');
      overEdges('reduced = max(reduced, share * element);');
    } else {
      builtins.add('exponential').add('naturalLogarithm');
      writer.line('var greatest = lowest;');
      overEdges('greatest = max(greatest, naturalLogarithm(abs(share)) + element);');
      writer.line('var total = 0.0f;');
      overEdges('total += sign(share) * exponential(naturalLogarithm(abs(share)) + element - greatest);');
      // A partial logarithm of values is not divided by the row's sum.
      const normalizer = plan.partial && normalization.rule.kind === 'softmax' ? ' + normalizer' : '';
      writer.line(`let reduced = greatest + naturalLogarithm(total)${normalizer};`);
    }
    writeElement(kernel, request, plan, 'reduced', plan.partial ? '0xff800000u' : '0u');
  });
}

function writeElement({ writer, lowering }: RowKernel, { variant }: AttentionRequest, { partial, valueDim }: Plan, value: string, empty: '0u' | '0xff800000u'): void {
  writer.line(`let aggregated = ${value};`);
  const finished = partial ? 'aggregated' : lowering().lower(variant.aggregation.finish);
  writer.line(`output[queryRow * ${valueDim}u + u32(channel)] = ${orEmpty(finished, empty, 'empty')};`);
}
