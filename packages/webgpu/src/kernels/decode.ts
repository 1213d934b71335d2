/**
 * Few queries over many keys: the keys are split, and a workgroup walks over one part of them for all query rows of its key head at once, so that grouped queries
 * share each key and value that is read (split keys: Dao et al. 2023, Flash-Decoding). What it leaves is partial: merge.ts brings the parts together.
 *
 * A key for each invocation: a chunk of the channels of as many keys stands in workgroup memory, read from storage in whole rows. The weights of a part stand there
 * too, so the largest score is found once for the part and nothing is rescaled on the way. Then neighbouring invocations take neighbouring channels of the values,
 * several keys at a time. Where keys are split depends on their number alone (L14).
 */
import { isProduct, type AttentionRequest } from '@heed/core';
import type { ProgramSource } from '@heed/runtime-webgpu';
import type { Plan } from '../plan.ts';
import { splitFields } from '../records.ts';
import { splitKeysOf, walkChunk } from '../tiles.ts';
import { moduleOf, type KernelBody } from './module.ts';
import { forBothTiles, pairBindings, pairReads, range, writeCombinedPair, writePair, writeRandomKeys } from './pairwise.ts';
import { guardDeclaration, needsGuard } from './values.ts';

/** Numbers of one row of a part: its sums over values, then two statistics: the largest score and the sum of exponentials, or the sum of terms and their count. */
export function partWidth({ valueDim }: Plan): number {
  return valueDim + 2;
}

export function decodeProgram(request: AttentionRequest, plan: Plan): ProgramSource {
  const { variant } = request;
  const { walkers, walkerRows } = plan.tile;
  const { channelLanes, keyTeams } = valueLanes(plan);
  const body = (kernel: KernelBody): void => {
    const { writer } = kernel;
    writeTask(kernel, plan);
    writer.section('1  combine: sums over channels, one key for each invocation');
    writer.block('for (var round = 0u; round < splitKeys; round += walkers)', () => {
      if (isProduct(variant.scoring.combine)) writeProducts(kernel, plan);
      else writeCombinations(kernel, request, plan);
    });
    writeTerms(kernel, request, plan);
    writeWeights(kernel, request, plan);
    writeValues(kernel, request, plan);
  };
  const { queryTables, enables, declarations } = pairReads(request, plan);
  return moduleOf({
    variant,
    plan,
    invocations: walkers,
    queryTables,
    enables,
    declarations: [
      ...declarations,
      `const walkers = ${walkers}u;  // invocations`,
      `const rows = ${walkerRows}u;  // query rows of all heads of one key head together`,
      `const splitKeys = ${splitKeysOf(plan.tile)}u;  // keys of one part`,
      `const members = ${walkers / walkerRows}u;  // invocations that normalize one row`,
      `const channelLanes = ${channelLanes}u;  // invocations that share one value`,
      `const keyTeams = ${keyTeams}u;  // values that are read at a time`,
      '',
      '// A chunk of the channels of keys, [quad][key + 1]; then sums over values, [invocation][row].',
      `var<workgroup> tile: array<vec4<f32>, ${Math.max(walkChunk * (walkers + 1), walkers * walkerRows)}>;`,
      'var<workgroup> pairs: array<f32, rows * (splitKeys + 4u)>;  // scores, then weights, [row][key + 4]',
      'var<workgroup> shares: array<f32, walkers>;',
      '',
      'fn pairAt(slot: u32, key: u32) -> u32 {\n  return slot * (splitKeys + 4u) + key;\n}',
      ...guardDeclaration(request),
    ],
    name: 'decode',
    header: [`Attention of at most ${walkerRows} query rows of one key head to a part of its keys, at most ${splitKeysOf(plan.tile)}.`, ...variant.structure.split('\n').map((line) => `  ${line}`)],
    bindings: [...pairBindings(plan).slice(0, 5), { name: 'parts', element: 'f32', write: true, comment: `[part][row][${partWidth(plan)}]: sums over values, then statistics` }],
    body,
  });
}

/** Neighbouring invocations share the channels of a value; what is left of them reads other values at the same time. */
function valueLanes({ tile, valueDim }: Plan): { readonly channelLanes: number; readonly keyTeams: number; readonly parts: number } {
  const quads = Math.ceil(valueDim / 4);
  const channelLanes = Math.min(quads, tile.walkers);
  return { channelLanes, keyTeams: Math.floor(tile.walkers / channelLanes), parts: Math.ceil(quads / channelLanes) };
}

function writeTask({ writer }: KernelBody, plan: Plan): void {
  const field = (name: (typeof splitFields)[number]): string => `integers[taskAt + ${splitFields.indexOf(name)}u]`;
  writer.section('The rows of this part, and its keys first … end − 1.');
  writer.line(
    `let taskAt = parameters.tasksAt + ${splitFields.length}u * task;`,
    `let sequence = sequenceAt(${field('sequence')});`,
    `let keyHead = ${field('keyHead')};`,
    `let rowsAt = u32(${field('rowsAt')});`,
    `let rowCount = u32(${field('rowCount')});`,
    `let first = ${field('first')};`,
    `let end = ${field('end')};`,
    `let mixed = ${field('mixed')} != 0;`,
    `let partAt = task * rows * ${partWidth(plan)}u;`,
    'let firstKeyRow = u32((sequence.tensorBatch * parameters.keyHeads + keyHead) * parameters.keyRows + sequence.keyStart);',
  );
}

/** The locals of a row: its head, index, position, and place in the query tensor. */
function writeRow(kernel: KernelBody, plan: Plan, random: boolean): void {
  kernel.writer.line(
    'let rowAt = rowsAt + 2u * min(slot, rowCount - 1u);',
    'let head = integers[rowAt];',
    'let queryIndex = integers[rowAt + 1u];',
    'let queryPosition = positionAt(sequence.queryPositions, sequence.queryOffset, queryIndex);',
    'let queryRow = rowInTensor(sequence, head, queryIndex);',
  );
  if (random) writeRandomKeys(kernel, plan);
}

function writeProducts({ writer }: KernelBody, { tile, scoreDim }: Plan): void {
  const quads = Math.ceil(scoreDim / 4);
  const chunk = Math.min(walkChunk, quads);
  const slots = range(tile.walkerRows);
  for (const row of slots) {
    writer.line(`let at${row} = rowsAt + 2u * min(${row}u, rowCount - 1u);`, `let query${row} = rowInTensor(sequence, integers[at${row}], integers[at${row} + 1u]);`);
    // Zeros are written out: SwiftShader keeps what a `var` without a value held in the turn before.
    writer.line(`var combined${row} = 0.0f;`);
  }
  writer.block(`for (var chunk = 0u; chunk < ${quads}u; chunk += ${chunk}u)`, () => {
    writer.line(`let width = min(${chunk}u, ${quads}u - chunk);`);
    writer.block('for (var place = local; place < width * walkers; place += walkers)', () => {
      writer.line('let quad = place % width;', 'let key = place / width;');
      writer.line('tile[quad * (walkers + 1u) + key] = keyQuad(firstKeyRow + u32(min(first + i32(round + key), end - 1)), chunk + quad);');
    });
    writer.line('workgroupBarrier();');
    writer.block('for (var quad = 0u; quad < width; quad++)', () => {
      writer.line('let key = tile[quad * (walkers + 1u) + local];');
      for (const row of slots) writer.line(`combined${row} += dot(queryQuad(query${row}, chunk + quad), key);`);
    });
    writer.line('workgroupBarrier();');
  });
  for (const row of slots) writer.line(`pairs[pairAt(${row}u, round + local)] = combined${row};`);
}

function writeCombinations(kernel: KernelBody, request: AttentionRequest, plan: Plan): void {
  const { writer } = kernel;
  writer.block('for (var slot = 0u; slot < rowCount; slot++)', () => {
    writeRow(kernel, plan, false);
    writer.line('let keyRow = firstKeyRow + u32(min(first + i32(round + local), end - 1));');
    writeCombinedPair(kernel, request, plan);
    writer.line('pairs[pairAt(slot, round + local)] = combined;');
  });
}

/** Terms in place of the sums: each invocation finds its own keys again. */
function writeTerms(kernel: KernelBody, request: AttentionRequest, plan: Plan): void {
  const { writer } = kernel;
  writer.section('2  scale and modify, 3  mask');
  forBothTiles(kernel, (mixed) => {
    writer.block('for (var slot = 0u; slot < rowCount; slot++)', () => {
      writeRow(kernel, plan, plan.streams.length > 0);
      writer.block('for (var round = 0u; round < splitKeys; round += walkers)', () => {
        writeKey(kernel, 'round + local', mixed);
        writePair(kernel, request, mixed, { pair: 'pairs[pairAt(slot, round + local)]' });
        writer.line('pairs[pairAt(slot, round + local)] = select(lowest, term, present);');
      });
    });
  });
  writer.line('workgroupBarrier();');
}

function writeKey({ writer }: KernelBody, place: string, mixed: boolean): void {
  writer.line(`let keyPlace = first + i32(${place});`, `let keyIndex = ${mixed ? 'min(keyPlace, end - 1)' : 'keyPlace'};`, 'let keyPosition = positionAt(sequence.keyPositions, sequence.keyOffset, keyIndex);');
}

/** Weights in place of the terms, and the statistics of the rows: `members` invocations for each row. */
function writeWeights(kernel: KernelBody, request: AttentionRequest, plan: Plan): void {
  const { writer, lowering } = kernel;
  const { rule, reweigh } = request.variant.normalization;
  const softmax = rule.kind === 'softmax';
  const reweighs = reweigh.kind !== 'input';
  const overKeys = (body: () => void): void => {
    writer.block('for (var key = member; key < splitKeys; key += members)', () => {
      writer.line('let term = pairs[pairAt(slot, key)];');
      body();
    });
  };
  const gather = (name: string, start: string, step: string): void => {
    writer.line(`shares[local] = ${name}Own;`, 'workgroupBarrier();', `var ${name} = ${start};`);
    writer.block('for (var other = 0u; other < members; other++)', () => writer.line(step));
    writer.line('workgroupBarrier();');
  };
  writer.section('4  normalize, 5  reweigh');
  writer.line('let slot = local / members;', 'let member = local % members;');
  if (reweighs) writeRow(kernel, plan, plan.streams.length > 0);
  if (softmax) {
    writer.line('var peakOwn = lowest;');
    overKeys(() => writer.line('peakOwn = max(peakOwn, term);'));
    gather('peak', 'lowest', 'peak = max(peak, shares[slot * members + other]);');
  } else writer.line('var countOwn = 0.0f;');
  writer.line('var totalOwn = 0.0f;');
  overKeys(() => {
    if (reweighs) writeKey(kernel, 'key', true);
    writer.line(`let weight = select(0.0f, ${softmax ? 'exp(term - peak)' : 'term'}, term > lowest);`, 'totalOwn += weight;');
    if (!softmax) writer.line('countOwn += select(0.0f, 1.0f, term > lowest);');
    writer.line(`pairs[pairAt(slot, key)] = ${reweighs ? `select(0.0f, ${lowering().lower(reweigh)}, term > lowest)` : 'weight'};`);
  });
  gather('total', '0.0f', 'total += shares[slot * members + other];');
  if (!softmax) gather('count', '0.0f', 'count += shares[slot * members + other];');
  writer.block('if (member == 0u)', () => {
    writer.line(`let statisticsAt = partAt + slot * ${partWidth(plan)}u + ${plan.valueDim}u;`, `parts[statisticsAt] = ${softmax ? 'peak' : 'total'};`, `parts[statisticsAt + 1u] = ${softmax ? 'total' : 'count'};`);
  });
}

function writeValues(kernel: KernelBody, request: AttentionRequest, plan: Plan): void {
  const { writer } = kernel;
  const { tile, valueDim } = plan;
  const { channelLanes, keyTeams, parts } = valueLanes(plan);
  const slots = range(tile.walkerRows);
  const quads = Math.ceil(valueDim / 4);
  const places = (part: number): string => (part === 0 ? 'channelLane' : `channelLane + ${part}u * channelLanes`);
  writer.section('6  aggregate: neighbours take neighbouring channels, teams of them every keyTeams-th key');
  writer.line('let channelLane = local % channelLanes;', 'let keyTeam = local / channelLanes;', `var sums = array<vec4<f32>, ${tile.walkerRows * parts}>();  // [row][part]: quad part · channelLanes + channelLane`);
  const walk = (guarded: boolean): void => {
    writer.block('for (var key = keyTeam; key < u32(end - first); key += keyTeams)', () => {
      for (const row of slots) writer.line(`let weight${row} = pairs[pairAt(${row}u, key)];`);
      for (const part of range(parts)) {
        const quad = quads % channelLanes === 0 ? places(part) : `min(${places(part)}, ${quads - 1}u)`;
        const read = `valueQuad(firstKeyRow + u32(first) + key, ${quad})`;
        writer.line(`let value${part} = ${guarded ? `finiteQuad(${read})` : read};`);
        for (const row of slots) writer.line(`sums[${row * parts + part}] += weight${row} * value${part};`);
      }
    });
  };
  const own = (): void => {
    if (needsGuard(request)) forBothTiles(kernel, walk);
    else walk(false);
  };
  if (channelLanes * keyTeams === tile.walkers) own();
  else writer.block('if (keyTeam < keyTeams)', own);
  writer.section('The sums of the teams, one after another.');
  for (const part of range(parts)) {
    if (part > 0) writer.line('workgroupBarrier();');
    for (const row of slots) writer.line(`tile[local * rows + ${row}u] = sums[${row * parts + part}];`);
    writer.line('workgroupBarrier();');
    writer.block('for (var item = local; item < rows * channelLanes; item += walkers)', () => {
      writer.line('let row = item / channelLanes;', 'let lane = item % channelLanes;', 'var sum = vec4<f32>(0.0f);');
      writer.block('for (var other = 0u; other < keyTeams; other++)', () => writer.line('sum += tile[(other * channelLanes + lane) * rows + row];'));
      writer.block('for (var turn = 0u; turn < 4u; turn++)', () => {
        writer.line(`let channel = 4u * (lane${part === 0 ? '' : ` + ${part}u * channelLanes`}) + turn;`);
        writer.block(`if (channel < ${valueDim}u)`, () => writer.line(`parts[partAt + row * ${partWidth(plan)}u + channel] = sum[turn];`));
      });
    });
  }
}
