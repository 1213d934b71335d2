/**
 * Attention in one walk over the keys: a workgroup takes a block of query rows and keeps, for each row, the largest score, the sum of exponentials and the
 * weighted sum of values so far (Milakov & Gimelshein 2018; Rabe & Staats 2021; Dao 2022).
 *
 * The ladder. One invocation for each pair, rows read from the caches: each number read met one multiplication. Register tiles of scores and outputs, keys and
 * weights in workgroup memory (see pairwise.ts and values.ts): 4 · rows multiplications for each vector of 1 + rows / 4. Statistics of rows by subgroup operations
 * where a team is no wider than the device's subgroups: one barrier less for each tile. Not done: queries in workgroup memory, the next tile's keys fetched while
 * this one's are multiplied, products in float16.
 */
import type { AttentionRequest } from '@heed/core';
import type { ProgramSource } from '@heed/runtime-webgpu';
import type { Plan } from '../plan.ts';
import { blockKeyOf, blockQueryOf } from '../tiles.ts';
import { laneFunctions, ofNeighbours, sharesOf, writeShare } from './lanes.ts';
import { writeRowEnd } from './finish.ts';
import { moduleOf, type KernelBody } from './module.ts';
import { forBothTiles, forKeys, forRows, forTiles, pairBindings, pairModule, range, writeCombined, writePair, writePlace } from './pairwise.ts';
import { guardDeclaration, partsOf, writeAccumulators, writeAggregate, writeRows } from './values.ts';

export function prefillProgram(request: AttentionRequest, plan: Plan): ProgramSource {
  const { variant } = request;
  const softmax = variant.normalization.rule.kind === 'softmax';
  const body = (kernel: KernelBody): void => {
    const { writer } = kernel;
    writePlace(kernel, plan);
    writer.section('Running statistics: of each row, and of the keys of each lane.');
    writeAccumulators(kernel, plan);
    writeStart(kernel, request);
    forTiles(kernel, () => {
      writeCombined(kernel, request, plan);
      if (softmax) writeSoftmax(kernel, request, plan);
      else writeTerms(kernel, request);
      writer.line('workgroupBarrier();');
      writer.section('6  aggregate');
      if (softmax) {
        for (const row of range(plan.tile.rows)) writer.line(`let correction${row} = correctionOf(now, ${row}u * teams + team);`);
        const parts = partsOf(plan);
        for (const row of range(plan.tile.rows)) for (const part of range(parts)) writer.line(`accumulator[${row * parts + part}] *= correction${row};`);
      }
      writeAggregate(kernel, request, plan);
      writer.line('workgroupBarrier();');
      if (softmax) writer.line('now = 1u - now;');
    });
    writeFinish(kernel, request, plan);
  };
  const { declarations = [], ...shared } = pairModule(request, plan);
  return moduleOf({
    ...shared,
    declarations: [...declarations, '', ...statisticsOf(request, plan), ...guardDeclaration(request)],
    name: 'prefill',
    header: [`Attention of blocks of ${blockQueryOf(plan.tile)} query rows, one walk over the keys in tiles of ${blockKeyOf(plan.tile)}.`, ...variant.structure.split('\n').map((line) => `  ${line}`)],
    bindings: pairBindings(plan),
    body,
  });
}

/** Workgroup memory for the statistics of rows, and the functions that bring those of lanes together. */
function statisticsOf({ variant }: AttentionRequest, plan: Plan): readonly string[] {
  const { rule } = variant.normalization;
  if (rule.kind === 'softmax') {
    return [
      'var<workgroup> totals: array<f32, blockQuery * lanes>;  // [slot][lane]: sums of exponentials over the keys of each lane',
      'var<workgroup> maxima: array<array<f32, blockQuery>, 2>;  // [now or before][slot]: the largest score so far',
      ...(sharesOf(plan) === 1 ? [] : [`var<workgroup> shares: array<f32, blockQuery * ${sharesOf(plan)}u>;  // [slot][share]: largest scores of the tile`]),
      '',
      ...laneFunctions(plan, ['maximum']),
      '// What sums up to the tile before are multiplied by, now that a larger score may have come.',
      'fn correctionOf(now: u32, slot: u32) -> f32 {\n  return exp(maxima[1u - now][slot] - maxima[now][slot]);\n}',
    ];
  }
  return [
    'var<workgroup> counts: array<u32, blockQuery * lanes>;  // [slot][lane]: how many keys a row sees',
    ...(rule.kind === 'rowSum' ? ['var<workgroup> totals: array<f32, blockQuery * lanes>;  // [slot][lane]: sums of terms'] : []),
  ];
}

function writeStart({ writer }: KernelBody, { variant }: AttentionRequest): void {
  const { kind } = variant.normalization.rule;
  const softmax = kind === 'softmax';
  writer.block('for (var part = 0u; part < rows; part++)', () => {
    writer.line('let slot = part * teams + team;');
    if (softmax || kind === 'rowSum') writer.line('totals[slot * lanes + lane] = 0.0f;');
    if (softmax) writer.block('if (lane == 0u)', () => writer.line('maxima[0][slot] = lowest;', 'maxima[1][slot] = lowest;'));
    else writer.line('counts[slot * lanes + lane] = 0u;');
  });
  if (softmax) writer.line('var now = 1u;');
  writer.line('workgroupBarrier();');
}

/** Scores become exponentials less the largest so far; the next barrier makes them, and the largest score, everyone's. */
function writeSoftmax(kernel: KernelBody, request: AttentionRequest, plan: Plan): void {
  const { writer, lowering } = kernel;
  const { reweigh } = request.variant.normalization;
  const shares = sharesOf(plan);
  const scores = (mixed: boolean): void => {
    writer.line('var largest = lowest;');
    forKeys(kernel, mixed, () => {
      writePair(kernel, request, mixed);
      writer.line('let kept = select(lowest, term, present);', 'tile[pairAt(slot, lane)][turn] = kept;', 'largest = max(largest, kept);');
    });
  };
  const weights = (): void => {
    writer.line('let before = maxima[1u - now][slot];');
    if (shares === 1) writer.line('let peak = max(before, largestOfAll);');
    else {
      writer.line('var peak = before;');
      writer.block(`for (var share = 0u; share < ${shares}u; share++)`, () => writer.line(`peak = max(peak, shares[slot * ${shares}u + share]);`));
    }
    writer.line('var sum = 0.0f;');
    const weight = (): void => { writer.line('let kept = tile[pairAt(slot, lane)][turn];', 'let weight = select(0.0f, exp(kept - peak), kept > lowest);', 'sum += weight;'); };
    if (reweigh.kind === 'input') {
      writer.block('for (var turn = 0u; turn < 4u; turn++)', () => {
        weight();
        writer.line('tile[pairAt(slot, lane)][turn] = weight;');
      });
    } else {
      forKeys(kernel, true, () => {
        weight();
        writer.line(`tile[pairAt(slot, lane)][turn] = select(0.0f, ${lowering().lower(reweigh)}, kept > lowest);`);
      });
    }
    writer.line('totals[slot * lanes + lane] = fma(totals[slot * lanes + lane], exp(before - peak), sum);');
    writer.block('if (lane == 0u)', () => writer.line('maxima[now][slot] = peak;'));
  };
  writer.section('2  scale and modify, 3  mask, 4  normalize: the largest score of each row');
  const both = (after: () => void): void => {
    forBothTiles(kernel, (mixed) => {
      forRows(kernel, () => {
        scores(mixed);
        after();
      });
    });
  };
  if (shares === 1) {
    both(() => {
      writer.line(`let largestOfAll = ${ofNeighbours(plan, 'maximum', 'largest')};`);
      weights();
    });
    return;
  }
  both(() => {
    if (plan.subgroup > 1) writer.line('let largestOfNeighbours = maximumOfNeighbours(largest);');
    writeShare(kernel, plan, plan.subgroup > 1 ? 'largestOfNeighbours' : 'largest');
  });
  writer.line('workgroupBarrier();');
  writer.section('4  normalize: exponentials, 5  reweigh');
  forRows(kernel, weights);
}

/** Terms that are weights, or numerators of weights, by themselves. */
function writeTerms(kernel: KernelBody, request: AttentionRequest): void {
  const { writer, lowering } = kernel;
  const { rule, reweigh } = request.variant.normalization;
  writer.section('2  scale and modify, 3  mask, 4  normalize, 5  reweigh');
  forBothTiles(kernel, (mixed) => {
    forRows(kernel, () => {
      writer.line('var counted = 0u;', ...(rule.kind === 'rowSum' ? ['var sum = 0.0f;'] : []));
      forKeys(kernel, mixed, () => {
        writePair(kernel, request, mixed);
        writer.line('counted += select(0u, 1u, present);', 'let weight = select(0.0f, term, present);', ...(rule.kind === 'rowSum' ? ['sum += weight;'] : []));
        writer.line(`tile[pairAt(slot, lane)][turn] = select(0.0f, ${lowering().lower(reweigh)}, present);`);
      });
      writer.line('counts[slot * lanes + lane] += counted;', ...(rule.kind === 'rowSum' ? ['totals[slot * lanes + lane] += sum;'] : []));
    });
  });
}

function writeFinish(kernel: KernelBody, request: AttentionRequest, plan: Plan): void {
  const { writer } = kernel;
  const { kind } = request.variant.normalization.rule;
  writer.section('7  finish');
  const overLanes = (start: string, step: string): void => {
    writer.line(start);
    writer.block('for (var other = 0u; other < lanes; other++)', () => writer.line(step));
  };
  writeRows(kernel, request, plan, (part) => {
    if (kind === 'softmax' || kind === 'rowSum') overLanes('var total = 0.0f;', 'total += totals[slot * lanes + other];');
    if (kind === 'softmax') writer.line('let largest = maxima[1u - now][slot];');
    else overLanes('var counted = 0u;', 'counted += counts[slot * lanes + other];');
    return writeRowEnd(kernel, request, plan, part === 0 ? 'lane == 0u' : null);
  });
}
