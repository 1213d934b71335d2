/**
 * Attention in one walk over the keys: each workgroup takes a block of query rows and keeps, for each row, the largest score, the sum of exponentials and the
 * weighted sum of values so far (Milakov & Gimelshein 2018; Rabe & Staats 2021; Dao 2022).
 *
 * An invocation scores one pair of each tile; then the lanes of a row share its value channels. First version: rows of query and key are read from the device's
 * caches, without tiles in registers or workgroup memory, so each number that is read meets one multiplication.
 */
import type { AttentionRequest } from '@heed/core';
import type { ProgramSource } from '@heed/runtime-webgpu';
import type { Plan } from '../plan.ts';
import { moduleOf, type KernelBody } from './module.ts';
import { forTiles, orEmpty, overLanes, pairBindings, pairModule, writePlace, writeScores } from './pairwise.ts';

export function prefillProgram(request: AttentionRequest, plan: Plan): ProgramSource {
  const { variant } = request;
  const { rule, reweigh } = variant.normalization;
  const softmax = rule.kind === 'softmax';
  const channels = Math.ceil(plan.valueDim / plan.blockKey);
  const body = (kernel: KernelBody): void => {
    const { writer, lowering, builtins } = kernel;
    writePlace(kernel, plan);
    writer.section('Running statistics of the row, and its channels lane, lane + 16, …');
    if (softmax) writer.line('var maximum = lowest;');
    writer.line('var total = 0.0f;', 'var counted = 0u;', `var accumulator: array<f32, ${channels}>;`);
    forTiles(kernel, plan, () => {
      writeScores(kernel, request, plan, null);
      writer.section('4  normalize');
      writer.line('pairs[local] = select(lowest, term, present);', 'workgroupBarrier();');
      if (softmax) {
        builtins.add('exponential');
        writer.line('var tileMaximum = maximum;');
        overLanes(kernel, plan, (pair) => writer.line(`tileMaximum = max(tileMaximum, ${pair});`, `counted += select(0u, 1u, ${pair} > lowest);`));
        writer.line('let correction = exponential(maximum - tileMaximum);', 'maximum = tileMaximum;', 'let weight = select(0.0f, exponential(term - maximum), present);');
        writer.line('workgroupBarrier();', 'pairs[local] = weight;', 'workgroupBarrier();', 'var tileTotal = 0.0f;');
        overLanes(kernel, plan, (pair) => writer.line(`tileTotal += ${pair};`));
        writer.line('total = fma(total, correction, tileTotal);');
      } else {
        overLanes(kernel, plan, (pair) => writer.line(`counted += select(0u, 1u, ${pair} > lowest);`, ...(rule.kind === 'rowSum' ? [`total += select(0.0f, ${pair}, ${pair} > lowest);`] : [])));
        writer.line('let weight = select(0.0f, term, present);');
      }
      if (reweigh.kind !== 'input' || !softmax) {
        writer.section('5  reweigh');
        writer.line(`let used = select(0.0f, ${lowering().lower(reweigh)}, present);`, 'workgroupBarrier();', 'pairs[local] = used;', 'workgroupBarrier();');
      }
      writer.section('6  aggregate: a weight of 0 brings nothing, whatever stands in the value (L10)');
      if (softmax) writer.block(`for (var part = 0u; part < ${channels}u; part++)`, () => writer.line('accumulator[part] *= correction;'));
      overLanes(kernel, plan, (pair) => {
        writer.line(`let share = ${pair};`);
        writer.block('if (share != 0.0f)', () => {
          writer.line(`let valueAt = (firstKeyRow + u32(min(first + i32(other), end - 1))) * ${plan.valueDim}u + lane;`);
          writer.block(`for (var part = 0u; part < ${channels}u; part++)`, () => writer.line(`accumulator[part] = fma(share, value[valueAt + part * ${plan.blockKey}u], accumulator[part]);`));
        });
      });
      writer.line('workgroupBarrier();');
    });
    writeFinish(kernel, request, plan, channels);
  };
  return moduleOf({
    ...pairModule(request, plan),
    name: 'prefill',
    header: [`Attention of blocks of ${plan.blockQuery} query rows, one walk over the keys in tiles of ${plan.blockKey}.`, ...variant.structure.split('\n').map((line) => `  ${line}`)],
    bindings: pairBindings,
    body,
  });
}

function writeFinish({ writer, lowering, builtins }: KernelBody, { variant }: AttentionRequest, plan: Plan, channels: number): void {
  const { normalization, aggregation } = variant;
  const { rule } = normalization;
  writer.section('7  finish');
  writer.block('if (slot >= rowCount)', () => writer.line('return;'));
  let factor = '1.0f';
  if (rule.kind === 'softmax') {
    builtins.add('naturalLogarithm').add('exponential');
    if (rule.sink === null) writer.line('let peak = maximum;', 'let whole = total;', 'let scale = 1.0f / total;');
    else {
      writer.line(`let sink = ${lowering().lower(rule.sink)};`, 'let peak = max(maximum, sink);', 'let rescale = exponential(maximum - peak);');
      writer.line('let whole = fma(total, rescale, exponential(sink - peak));', 'let scale = rescale / whole;');
    }
    factor = 'scale';
    writer.block('if (lane == 0u)', () => {
      const seen = rule.sink === null ? 'counted == 0u' : 'counted == 0u && sink <= lowest';
      writer.line(`statistics[outputRow] = ${orEmpty('peak + naturalLogarithm(whole)', '0xff800000u', seen)};`);
    });
  } else if (plan.partial) {
    writer.block('if (lane == 0u)', () => {
      writer.line('statistics[outputRow] = bitcast<u32>(f32(counted));');
      if (rule.kind === 'rowSum') writer.line('statistics[parameters.rowCount + outputRow] = bitcast<u32>(total);');
    });
  } else if (rule.kind === 'rowSum') {
    writer.line(`let scale = 1.0f / (total + ${lowering().lower(rule.epsilon)});`);
    factor = 'scale';
  }
  writer.block(`for (var part = 0u; part < ${channels}u; part++)`, () => {
    writer.line(`let channel = i32(part * ${plan.blockKey}u + lane);`);
    writer.block(`if (channel >= ${plan.valueDim}i)`, () => writer.line('break;'));
    writer.line(`let aggregated = accumulator[part]${factor === '1.0f' ? '' : ` * ${factor}`};`);
    writer.line(`output[outputRow * ${plan.valueDim}u + u32(channel)] = ${orEmpty(plan.partial ? 'aggregated' : lowering().lower(aggregation.finish), '0u', 'counted == 0u')};`);
  });
}
