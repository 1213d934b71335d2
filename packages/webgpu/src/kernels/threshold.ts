/**
 * Attention of blocks of whole rows: their scores stand in a scratch buffer, so that a normalization may look at all of them as often as it likes, and values
 * may be brought together by something else than a sum. Also what looks at stages (L8).
 */
import type { AttentionRequest } from '@heed/core';
import type { ProgramSource } from '@heed/runtime-webgpu';
import type { Plan } from '../plan.ts';
import { taskFields } from '../records.ts';
import { blockKeyOf, blockQueryOf } from '../tiles.ts';
import { laneFunctions, ofNeighbours, sharesOf } from './lanes.ts';
import { moduleOf, type KernelBody, type StorageBinding } from './module.ts';
import { forBothTiles, forKeys, forRows, forTiles, orEmpty, pairBindings, pairModule, writeCombined, writePair, writePlace } from './pairwise.ts';
import { guardDeclaration, writeAccumulators, writeAggregate, writeRows } from './values.ts';

const scratch: StorageBinding = { name: 'scratch', element: 'f32', write: true, comment: 'terms, then weights, of the rows of this dispatch; lowest where there is none' };

/** Halvings of an interval of length 1: the last is below the spacing of float32 near 1. */
const halvings = 28;

export function rowsProgram(request: AttentionRequest, plan: Plan): ProgramSource {
  const { variant } = request;
  const { observed, tile } = plan;
  const body = (kernel: KernelBody): void => {
    const { writer } = kernel;
    writePlace(kernel, plan);
    if (observed !== null && observed !== 'weights') {
      writeObservedScores(kernel, request, plan);
      return;
    }
    writer.line('let scratchAt = (task - parameters.firstTask) * blockQuery;');
    forTiles(kernel, () => {
      writeCombined(kernel, request, plan);
      writer.section('2  scale and modify, 3  mask');
      forBothTiles(kernel, (mixed) => {
        forRows(kernel, () => {
          forKeys(kernel, mixed, () => {
            writePair(kernel, request, mixed);
            writer.line(`scratch[${placeOf('turn * lanes + lane')}] = select(lowest, term, present);`);
          });
        });
      });
      writer.line('workgroupBarrier();');
    });
    writer.line('let places = ordinal * blockKey;');
    forRows(kernel, () => {
      writer.line('let rowAt = (scratchAt + slot) * parameters.scratchStride;');
      writeNormalize(kernel, request, plan);
      if (observed === null) writeStatistics(kernel, request, plan);
    });
    if (observed === 'weights') writeObservedWeights(kernel);
    else if (variant.aggregation.reduction === 'sum') writeSums(kernel, request, plan);
    else writeOtherReductions(kernel, request, plan);
  };
  const { declarations = [], ...shared } = pairModule(request, plan);
  return moduleOf({
    ...shared,
    declarations: [...declarations, '', ...rowReductions(plan), '', 'var<workgroup> counts: array<f32, blockQuery>;  // [slot]: how many keys a row sees', ...guardDeclaration(request)],
    name: observed === null ? 'rows' : `observe ${observed}`,
    header: [`${observed === null ? 'Attention' : `The stage '${observed}'`} of blocks of ${blockQueryOf(tile)} whole query rows, scored in tiles of ${blockKeyOf(tile)} keys.`, ...variant.structure.split('\n').map((line) => `  ${line}`)],
    bindings: [...pairBindings(plan), scratch],
    body,
  });
}

/** Where a key of the tile at hand stands in scratch, for the row `slot`. Tiles stand one after another. */
function placeOf(key: string): string {
  return `(scratchAt + slot) * parameters.scratchStride + ordinal * blockKey + ${key}`;
}

/** Sum and maximum over the lanes of a team, the same for all of them, in one order. */
function rowReductions(plan: Plan): readonly string[] {
  const shares = sharesOf(plan);
  const reduction = (name: 'sum' | 'maximum', start: string, step: string): string => {
    const head = `fn row${name === 'sum' ? 'Sum' : 'Maximum'}(local: u32, own: f32) -> f32 {`;
    const mine = ofNeighbours(plan, name, 'own');
    if (shares === 1) return `${head}\n  return ${mine};\n}`;
    const store = plan.subgroup === 1 ? 'shares[local] = own;' : `let ofNeighbours = ${mine};\n  if (local % ${plan.subgroup}u == 0u) {\n    shares[local / ${plan.subgroup}u] = ofNeighbours;\n  }`;
    return `${head}
  ${store}
  workgroupBarrier();
  let row = local / lanes * ${shares}u;
  var result = ${start};
  for (var other = 0u; other < ${shares}u; other++) {
    ${step}
  }
  workgroupBarrier();
  return result;
}`;
  };
  return [
    ...(shares === 1 ? [] : [`var<workgroup> shares: array<f32, teams * ${shares}u>;`, '']),
    ...laneFunctions(plan, ['sum', 'maximum']),
    reduction('sum', '0.0f', 'result += shares[row + other];'),
    '',
    reduction('maximum', 'shares[row]', 'result = max(result, shares[row + other]);'),
  ];
}

/** A loop over this lane's own places in scratch that hold a term. */
function overOwn({ writer }: KernelBody, body: () => void): void {
  writer.block('for (var place = lane; place < places; place += lanes)', () => {
    writer.line('let term = scratch[rowAt + place];');
    writer.block('if (term > lowest)', body);
  });
}

function writeNormalize(kernel: KernelBody, request: AttentionRequest, plan: Plan): void {
  const { writer, lowering, builtins } = kernel;
  const { rule, reweigh } = request.variant.normalization;
  const sumOf = (name: string, term: string): void => {
    writer.line(`var ${name}Own = 0.0f;`);
    overOwn(kernel, () => writer.line(`${name}Own += ${term};`));
    writer.line(`let ${name} = rowSum(local, ${name}Own);`);
  };
  writer.section('4  normalize');
  writer.line('var largestOwn = lowest;');
  overOwn(kernel, () => writer.line('largestOwn = max(largestOwn, term);'));
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
      overOwn(kernel, () => writer.line('winnerOwn = select(winnerOwn, max(winnerOwn, -f32(place)), term == largest);'));
      writer.line('let winner = u32(max(0.0f, -rowMaximum(local, winnerOwn)));');
      weight = 'select(0.0f, 1.0f, place == winner)';
      break;
    case 'threshold':
      weight = writeThreshold(kernel, rule.alpha, sumOf);
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
  writer.section(reweighs ? '5  reweigh' : 'Weights take the place of the terms.');
  if (!reweighs) {
    overOwn(kernel, () => writer.line(`scratch[rowAt + place] = ${weight};`));
    return;
  }
  writer.block('', () => {
    forTiles(kernel, () => {
      forKeys(kernel, true, () => {
        writer.line('let place = ordinal * blockKey + turn * lanes + lane;', 'let term = scratch[rowAt + place];');
        writer.block('if (term > lowest)', () => {
          writer.line(`let weight = ${weight};`);
          writer.line(`scratch[rowAt + place] = ${lowering().lower(reweigh)};`);
        });
      });
    });
  });
}

/** τ such that [(α − 1)·t − τ]₊^(1/(α−1)) sums to 1: by halving, then, for α = 2 and 1.5, exactly from the support that was found (Martins 2016; Peters 2019). */
function writeThreshold(kernel: KernelBody, alpha: number, sumOf: (name: string, term: string) => void): string {
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
    overOwn(kernel, () => writer.line(`let above = max(${moved} - middle, 0.0f);`, `massOwn += ${raised('above')};`));
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

/** What is written for each row beside the output. */
function writeStatistics({ writer }: KernelBody, { variant }: AttentionRequest, plan: Plan): void {
  const { rule } = variant.normalization;
  writer.block('if (lane == 0u && slot < rowCount)', () => {
    writer.line('counts[slot] = count;');
    const sees = rule.kind === 'softmax' && rule.sink !== null ? 'count == 0.0f && sink <= lowest' : 'count == 0.0f';
    plan.statistics.forEach((statistic, plane) => {
      const at = plane === 0 ? 'queryRow' : 'parameters.rowCount + queryRow';
      if (statistic === 'logSumExp') writer.line(`statistics[${at}] = ${orEmpty('normalizer', '0xff800000u', sees)};`);
      if (statistic === 'count') writer.line(`statistics[${at}] = bitcast<u32>(count);`);
      if (statistic === 'denominator') writer.line(`statistics[${at}] = bitcast<u32>(total);`);
    });
  });
}

/** Weighted sums, tile by tile: each lane finds its own weights in scratch and hands them to its team. */
function writeSums(kernel: KernelBody, request: AttentionRequest, plan: Plan): void {
  const { writer } = kernel;
  writer.section('6  aggregate');
  writeAccumulators(kernel, plan);
  writer.block('', () => {
    forTiles(kernel, () => {
      forRows(kernel, () => {
        writer.block('for (var turn = 0u; turn < 4u; turn++)', () => {
          writer.line(`let weight = scratch[${placeOf('turn * lanes + lane')}];`, 'tile[pairAt(slot, lane)][turn] = select(0.0f, weight, weight > lowest);');
        });
      });
      writer.line('workgroupBarrier();');
      writeAggregate(kernel, request, plan);
      writer.line('workgroupBarrier();');
    });
  });
  writer.section('7  finish');
  writer.line('workgroupBarrier();');
  writeRows(kernel, request, plan, () => ({ factor: null, empty: 'counts[slot] == 0.0f' }));
}

/** Other reductions: every lane reads the weights of the whole row, for its own channels. */
function writeOtherReductions(kernel: KernelBody, { variant }: AttentionRequest, plan: Plan): void {
  const { writer, lowering, builtins } = kernel;
  const { aggregation, normalization } = variant;
  const { reduction } = aggregation;
  writer.section('6  aggregate: every lane reads the weights of the whole row');
  writer.line('storageBarrier();', 'workgroupBarrier();');
  const overPlaces = (body: () => void): void => {
    writer.block('', () => {
      forTiles(kernel, () => {
        writer.block('for (var other = 0u; other < min(blockKey, u32(end - first)); other++)', () => {
          writer.line(`let share = scratch[${placeOf('other')}];`);
          writer.block(reduction === 'max' ? 'if (share > lowest)' : 'if (share > lowest && share != 0.0f)', () => {
            writer.line('let element = valueElement(firstKeyRow + u32(first) + other, u32(channel));');
            body();
          });
        });
      });
    });
  };
  forRows(kernel, () => {
    writer.block('if (slot < rowCount)', () => {
      writer.block(`for (var channel = i32(lane); channel < ${plan.valueDim}i; channel += i32(lanes))`, () => {
        if (reduction === 'max') {
          writer.line('var aggregated = -3.0e38f;');
          overPlaces(() => writer.line('aggregated = max(aggregated, share * element);'));
        } else {
          builtins.add('exponential').add('naturalLogarithm');
          writer.line('var greatest = lowest;');
          overPlaces(() => writer.line('greatest = max(greatest, naturalLogarithm(abs(share)) + element);'));
          writer.line('var sum = 0.0f;');
          overPlaces(() => writer.line('sum += sign(share) * exponential(naturalLogarithm(abs(share)) + element - greatest);'));
          const normalizer = plan.partial && normalization.rule.kind === 'softmax';
          writer.line(`var aggregated = greatest + naturalLogarithm(sum)${normalizer ? ' + bitcast<f32>(statistics[queryRow])' : ''};`);
        }
        const empty = plan.partial ? '0xff800000u' : '0u';
        const finished = plan.partial ? 'aggregated' : lowering().lower(aggregation.finish);
        writer.line(`output[queryRow * ${plan.valueDim}u + u32(channel)] = ${orEmpty(finished, empty, 'counts[slot] == 0.0f')};`);
      });
    });
  });
}

/** Where this row stands among those that are looked at: the list behind the rows of the task. */
function observedRow(): string {
  return `let observedAt = u32(integers[u32(integers[taskAt + ${taskFields.indexOf('observedAt')}u]) + min(slot, rowCount - 1u)] * parameters.keyRows + sequence.keyStart);`;
}

function writeObservedScores(kernel: KernelBody, request: AttentionRequest, plan: Plan): void {
  const { writer } = kernel;
  forTiles(kernel, () => {
    writeCombined(kernel, request, plan);
    writer.section(`The stage '${plan.observed ?? ''}'`);
    forRows(kernel, () => {
      writer.line(observedRow());
      forKeys(kernel, true, () => {
        writePair(kernel, request, true, { stage: plan.observed });
        const value = plan.observed === 'masked' ? 'select(0xff800000u, bitcast<u32>(score), present)' : 'bitcast<u32>(score)';
        writer.block('if (keyPlace < end && slot < rowCount)', () => writer.line(`output[observedAt + u32(keyIndex)] = ${value};`));
      });
    });
    writer.line('workgroupBarrier();');
  });
}

function writeObservedWeights(kernel: KernelBody): void {
  const { writer } = kernel;
  writer.block('', () => {
    forTiles(kernel, () => {
      forRows(kernel, () => {
        writer.line(observedRow());
        forKeys(kernel, true, () => {
          writer.line(`let weight = scratch[${placeOf('turn * lanes + lane')}];`);
          writer.block('if (keyPlace < end && slot < rowCount && weight > lowest)', () => writer.line('output[observedAt + u32(keyIndex)] = bitcast<u32>(weight);'));
        });
      });
    });
  });
}
