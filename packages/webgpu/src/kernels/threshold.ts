/**
 * Attention of blocks of whole rows: their scores stand in a scratch buffer, so that a normalization may look at all of them as often as it likes, and values
 * may be brought together by something else than a sum. Also what looks at stages (L8).
 */
import type { AttentionRequest } from '@heed/core';
import type { ProgramSource } from '@heed/runtime-webgpu';
import type { Plan } from '../plan.ts';
import { taskFields } from '../records.ts';
import { moduleOf, type KernelBody, type StorageBinding } from './module.ts';
import { forTiles, orEmpty, pairBindings, pairModule, writePlace, writeScores } from './pairwise.ts';

const scratch: StorageBinding = { name: 'scratch', element: 'f32', write: true, comment: 'terms, then weights, of the rows of this dispatch; lowest where there is none' };

/** Halvings of an interval of length 1: the last is below the spacing of float32 near 1. */
const halvings = 28;

export function rowsProgram(request: AttentionRequest, plan: Plan): ProgramSource {
  const { variant } = request;
  const { observed, blockQuery, blockKey } = plan;
  const body = (kernel: KernelBody): void => {
    writePlace(kernel, plan);
    if (observed !== null && observed !== 'weights') {
      writeObservedScores(kernel, request, plan);
      return;
    }
    const { writer } = kernel;
    writer.line(`let scratchAt = ((task - parameters.firstTask) * ${blockQuery}u + slot) * parameters.scratchStride;`);
    forTiles(kernel, plan, () => {
      writeScores(kernel, request, plan, null);
      writer.line(`scratch[scratchAt + ordinal * ${blockKey}u + lane] = select(lowest, term, present);`);
    });
    writer.line(`let places = ordinal * ${blockKey}u;`);
    writeNormalize(kernel, request, plan);
    if (observed === 'weights') writeObservedWeights(kernel, plan);
    else writeAggregate(kernel, request, plan);
  };
  const { declarations = [], ...shared } = pairModule(request, plan);
  return moduleOf({
    ...shared,
    declarations: [...declarations, '', ...rowReductions(plan)],
    name: observed === null ? 'rows' : `observe ${observed}`,
    header: [`${observed === null ? 'Attention' : `The stage '${observed}'`} of blocks of ${blockQuery} whole query rows, scored in tiles of ${blockKey} keys.`, ...variant.structure.split('\n').map((line) => `  ${line}`)],
    bindings: [...pairBindings, scratch],
    body,
  });
}

/** Sum and maximum over the lanes of a row, the same for all of them, in one order. */
function rowReductions({ blockKey }: Plan): readonly string[] {
  const reduction = (name: string, start: string, step: string): string =>
    `fn ${name}(local: u32, own: f32) -> f32 {
  pairs[local] = own;
  workgroupBarrier();
  let row = local / ${blockKey}u * ${blockKey}u;
  var result = ${start};
  for (var other = 0u; other < ${blockKey}u; other++) {
    ${step}
  }
  workgroupBarrier();
  return result;
}`;
  return [reduction('rowSum', '0.0f', 'result += pairs[row + other];'), '', reduction('rowMaximum', 'pairs[row]', 'result = max(result, pairs[row + other]);')];
}

/** A loop over this lane's own places in scratch that hold a term. */
function overOwn({ writer }: KernelBody, { blockKey }: Plan, body: () => void): void {
  writer.block(`for (var place = lane; place < places; place += ${blockKey}u)`, () => {
    writer.line('let term = scratch[scratchAt + place];');
    writer.block('if (term > lowest)', body);
  });
}

function writeNormalize(kernel: KernelBody, request: AttentionRequest, plan: Plan): void {
  const { writer, lowering, builtins } = kernel;
  const { rule, reweigh } = request.variant.normalization;
  const sumOf = (name: string, term: string): void => {
    writer.line(`var ${name}Own = 0.0f;`);
    overOwn(kernel, plan, () => writer.line(`${name}Own += ${term};`));
    writer.line(`let ${name} = rowSum(local, ${name}Own);`);
  };
  writer.section('4  normalize');
  writer.line('var largestOwn = lowest;');
  overOwn(kernel, plan, () => writer.line('largestOwn = max(largestOwn, term);'));
  writer.line('let largest = rowMaximum(local, largestOwn);');
  sumOf('count', '1.0f');
  let weight = 'term';
  switch (rule.kind) {
    case 'softmax': {
      builtins.add('exponential').add('naturalLogarithm');
      writer.line(rule.sink === null ? 'let peak = largest;' : `let sink = ${lowering().lower(rule.sink)};`, ...(rule.sink === null ? [] : ['let peak = max(largest, sink);']));
      sumOf('total', 'exponential(term - peak)');
      writer.line(`let whole = total${rule.sink === null ? '' : ' + exponential(sink - peak)'};`, 'let normalizer = peak + naturalLogarithm(whole);');
      weight = 'exponential(term - peak) / whole';
      break;
    }
    case 'hardMax':
      writer.line('var winnerOwn = -1.0e9f;');
      overOwn(kernel, plan, () => writer.line('winnerOwn = select(winnerOwn, max(winnerOwn, -f32(place)), term == largest);'));
      writer.line('let winner = u32(max(0.0f, -rowMaximum(local, winnerOwn)));');
      weight = 'select(0.0f, 1.0f, place == winner)';
      break;
    case 'threshold':
      weight = writeThreshold(kernel, plan, rule.alpha, sumOf);
      break;
    case 'elementwise':
      break;
    case 'rowSum':
      sumOf('total', 'term');
      if (!plan.partial) {
        writer.line(`let whole = total + ${lowering().lower(rule.epsilon)};`);
        weight = 'term / whole';
      }
      break;
  }
  const reweighs = reweigh.kind !== 'input' && plan.observed === null;
  const usesKeys = reweighs;
  writer.section(reweighs ? '5  reweigh' : 'Weights take the place of the terms.');
  if (!usesKeys) {
    overOwn(kernel, plan, () => writer.line(`scratch[scratchAt + place] = ${weight};`));
    return;
  }
  writer.block('', () => {
    forTiles(kernel, plan, () => {
      writer.line(`let place = ordinal * ${plan.blockKey}u + lane;`, 'let keyIndex = min(first + i32(lane), end - 1);', 'let keyPosition = positionAt(sequence.keyPositions, sequence.keyOffset, keyIndex);', 'let term = scratch[scratchAt + place];');
      writer.block('if (term > lowest)', () => {
        writer.line(`let weight = ${weight};`);
        writer.line(`scratch[scratchAt + place] = ${lowering().lower(reweigh)};`);
      });
    });
  });
}

/** τ such that [(α − 1)·t − τ]₊^(1/(α−1)) sums to 1: by halving, then, for α = 2 and 1.5, exactly from the support that was found (Martins 2016; Peters 2019). */
function writeThreshold(kernel: KernelBody, plan: Plan, alpha: number, sumOf: (name: string, term: string) => void): string {
  const { writer, builtins } = kernel;
  const moved = alpha === 2 ? '(term - largest)' : `(${alpha - 1}f * (term - largest))`;
  const raised = (base: string): string => {
    if (alpha === 2) return base;
    if (alpha === 1.5) return `${base} * ${base}`;
    builtins.add('power');
    return `power(${base}, ${1 / (alpha - 1)}f)`;
  };
  writer.line('var low = -1.0f;', 'var high = 0.0f;');
  writer.block(`for (var halving = 0u; halving < ${halvings}u; halving++)`, () => {
    writer.line('let middle = 0.5f * (low + high);', 'var massOwn = 0.0f;');
    overOwn(kernel, plan, () => writer.line(`let above = max(${moved} - middle, 0.0f);`, `massOwn += ${raised('above')};`));
    writer.line('let enough = rowSum(local, massOwn) >= 1.0f;', 'low = select(low, middle, enough);', 'high = select(middle, high, enough);');
  });
  if (alpha === 2 || alpha === 1.5) {
    sumOf('support', `select(0.0f, 1.0f, ${moved} > low)`);
    sumOf('supportSum', `select(0.0f, ${moved}, ${moved} > low)`);
    if (alpha === 2) writer.line('let threshold = (supportSum - 1.0f) / support;');
    else {
      writer.line('let centre = supportSum / support;');
      sumOf('spread', `select(0.0f, (${moved} - centre) * (${moved} - centre), ${moved} > low)`);
      writer.line('let threshold = centre - sqrt(max((1.0f - spread) / support, 0.0f));');
    }
    return alpha === 2 ? `max(${moved} - threshold, 0.0f)` : `max(${moved} - threshold, 0.0f) * max(${moved} - threshold, 0.0f)`;
  }
  sumOf('mass', raised(`max(${moved} - low, 0.0f)`));
  return `${raised(`max(${moved} - low, 0.0f)`)} / mass`;
}

function writeAggregate(kernel: KernelBody, { variant }: AttentionRequest, plan: Plan): void {
  const { writer, lowering, builtins } = kernel;
  const { aggregation, normalization } = variant;
  const { rule } = normalization;
  const { reduction } = aggregation;
  writer.section('6  aggregate: every lane reads the weights of the whole row');
  writer.line('storageBarrier();', 'workgroupBarrier();');
  writer.block('if (slot >= rowCount)', () => writer.line('return;'));
  writer.block('if (lane == 0u)', () => {
    const sees = rule.kind === 'softmax' && rule.sink !== null ? 'count == 0.0f && sink <= lowest' : 'count == 0.0f';
    plan.statistics.forEach((statistic, plane) => {
      const at = plane === 0 ? 'outputRow' : 'parameters.rowCount + outputRow';
      if (statistic === 'logSumExp') writer.line(`statistics[${at}] = ${orEmpty('normalizer', '0xff800000u', sees)};`);
      if (statistic === 'count') writer.line(`statistics[${at}] = bitcast<u32>(count);`);
      if (statistic === 'denominator') writer.line(`statistics[${at}] = bitcast<u32>(total);`);
    });
  });
  const overPlaces = (body: () => void): void => {
    writer.block('', () => {
      forTiles(kernel, plan, () => {
        writer.block(`for (var other = 0u; other < min(${plan.blockKey}u, u32(end - first)); other++)`, () => {
          writer.line(`let share = scratch[scratchAt + ordinal * ${plan.blockKey}u + other];`);
          writer.block(reduction === 'max' ? 'if (share > lowest)' : 'if (share > lowest && share != 0.0f)', () => {
            writer.line(`let element = value[(firstKeyRow + u32(first) + other) * ${plan.valueDim}u + u32(channel)];`);
            body();
          });
        });
      });
    });
  };
  writer.block(`for (var channel = i32(lane); channel < ${plan.valueDim}i; channel += ${plan.blockKey}i)`, () => {
    switch (reduction) {
      case 'sum':
        writer.line('var aggregated = 0.0f;');
        overPlaces(() => writer.line('aggregated = fma(share, element, aggregated);'));
        break;
      case 'max':
        writer.line('var aggregated = -3.0e38f;');
        overPlaces(() => writer.line('aggregated = max(aggregated, share * element);'));
        break;
      case 'logSumExp':
        builtins.add('exponential').add('naturalLogarithm');
        writer.line('var greatest = lowest;');
        overPlaces(() => writer.line('greatest = max(greatest, naturalLogarithm(abs(share)) + element);'));
        writer.line('var sum = 0.0f;');
        overPlaces(() => writer.line('sum += sign(share) * exponential(naturalLogarithm(abs(share)) + element - greatest);'));
        writer.line(`var aggregated = greatest + naturalLogarithm(sum)${plan.partial && rule.kind === 'softmax' ? ' + normalizer' : ''};`);
        break;
    }
    const empty = plan.partial && reduction !== 'sum' ? '0xff800000u' : '0u';
    const finished = plan.partial ? 'aggregated' : lowering().lower(aggregation.finish);
    writer.line(`output[outputRow * ${plan.valueDim}u + u32(channel)] = ${orEmpty(finished, empty, 'count == 0.0f')};`);
  });
}

/** Where this row stands among those that are looked at: the list behind the rows of the task. */
function observedRow(): string {
  return `let observedAt = u32(integers[u32(integers[taskAt + ${taskFields.indexOf('observedAt')}u]) + min(slot, rowCount - 1u)] * parameters.keyRows + sequence.keyStart);`;
}

function writeObservedScores(kernel: KernelBody, request: AttentionRequest, plan: Plan): void {
  const { writer } = kernel;
  writer.line(observedRow());
  forTiles(kernel, plan, () => {
    writeScores(kernel, request, plan, plan.observed);
    const value = plan.observed === 'masked' ? 'select(0xff800000u, bitcast<u32>(score), present)' : 'bitcast<u32>(score)';
    writer.block('if (inside && slot < rowCount)', () => writer.line(`output[observedAt + u32(keyIndex)] = ${value};`));
  });
}

function writeObservedWeights(kernel: KernelBody, plan: Plan): void {
  const { writer } = kernel;
  writer.line(observedRow());
  writer.block('', () => {
    forTiles(kernel, plan, () => {
      writer.line(`let weight = scratch[scratchAt + ordinal * ${plan.blockKey}u + lane];`);
      writer.block('if (first + i32(lane) < end && slot < rowCount && weight > lowest)', () => writer.line('output[observedAt + u32(first) + lane] = bitcast<u32>(weight);'));
    });
  });
}
