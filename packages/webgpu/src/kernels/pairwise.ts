/**
 * Pairs of query rows and keys, tile by tile, for every kernel that walks over keys by teams. A team of lanes owns rows of the block (slots part · teams + team);
 * of each tile, lane l of a team holds the keys l, l + lanes, l + 2 lanes and l + 3 lanes, as the four components of one vector.
 *
 * The ladder. One invocation for each pair met one multiplication with every number that it read. A register tile of rows × 4 scores meets 4 · rows of them with
 * 1 + rows / 4 vectors: keys come from workgroup memory, where a tile of them stands once for all teams, vectors of one channel quad side by side, so that
 * neighbouring lanes read neighbouring banks; rows of queries come from the caches, the same address for all lanes of a team. The products are vector · matrix,
 * which every device has as chains of fma. Scores then pass through workgroup memory, where each lane finds its own again: what a variant makes of a score is
 * written once, in a loop, instead of once for every score that registers hold.
 */
import { isProduct, type AttentionRequest, type ObservedStage } from '@heed/core';
import { pairExpressions, queryTablesOf } from '@heed/core/compute';
import type { Plan } from '../plan.ts';
import { runFields, taskFields } from '../records.ts';
import { blockKeyOf, blockQueryOf, laneKeys, tileQuads } from '../tiles.ts';
import type { KernelBody, ModuleOptions, StorageBinding } from './module.ts';
import { operandBinding, operandReads, readsFloat16 } from './operands.ts';

/** Storage that every kernel over pairs has, in the order of bindings from 1 on. */
export function pairBindings(plan: Plan): readonly StorageBinding[] {
  return [
    operandBinding('query', plan, '[batch, heads, queryRows, scoreDim], transformed'),
    operandBinding('key', plan, '[batch, keyHeads, keyRows, scoreDim], transformed'),
    operandBinding('value', plan, '[batch, keyHeads, keyRows, valueDim], prepared'),
    { name: 'integers', element: 'i32', comment: 'sequences, tasks, rows, runs of keys, positions' },
    { name: 'tables', element: 'u32', comment: 'every table of the variant, one after another' },
    { name: 'output', element: 'u32', write: true, comment: 'bits of f32 [batch, heads, queryRows, valueDim]' },
    { name: 'statistics', element: 'u32', write: true, comment: 'bits of f32, planes of [batch, heads, queryRows]' },
  ];
}

/** What a module needs to read the rows of pairs. */
export function pairReads({ variant }: AttentionRequest, plan: Plan): { readonly queryTables: readonly string[]; readonly enables: readonly string[]; readonly declarations: readonly string[] } {
  const queryTables = queryTablesOf(pairExpressions(variant));
  const product = isProduct(variant.scoring.combine);
  return {
    queryTables,
    enables: readsFloat16(plan) ? ['f16'] : [],
    declarations: [
      ...operandReads('query', plan, readsOf('query', plan, product, !product || queryTables.length > 0)),
      ...operandReads('key', plan, readsOf('key', plan, product, !product)),
      ...operandReads('value', plan, readsOf('value', plan, true, plan.path === 'rows')),
    ],
  };
}

/** What kernels by teams have in common, for `moduleOf`. */
export function pairModule(request: AttentionRequest, plan: Plan): Pick<ModuleOptions, 'variant' | 'plan' | 'invocations' | 'queryTables' | 'declarations' | 'enables'> {
  const { tile } = plan;
  const { queryTables, enables, declarations } = pairReads(request, plan);
  return {
    variant: request.variant,
    plan,
    invocations: tile.lanes * tile.teams,
    queryTables,
    enables: [...enables, ...(plan.subgroup > 1 ? ['subgroups'] : [])],
    declarations: [
      ...declarations,
      '// Teams of lanes; each owns rows of the block, and each of its lanes four keys of a tile.',
      `const lanes = ${tile.lanes}u;`,
      `const teams = ${tile.teams}u;`,
      `const rows = ${tile.rows}u;`,
      `const blockQuery = ${blockQueryOf(tile)}u;`,
      `const blockKey = ${blockKeyOf(tile)}u;`,
      '',
      '// A chunk of the channels of a tile of keys, [quad][key + 1]; then the scores and weights of the tile, [slot][lane + 1], four keys in a vector.',
      `var<workgroup> tile: array<vec4<f32>, ${tileQuads(tile)}>;`,
      '',
      'fn pairAt(slot: u32, lane: u32) -> u32 {\n  return slot * (lanes + 1u) + lane;\n}',
    ],
  };
}

function readsOf(name: 'query' | 'key' | 'value', { operands }: Plan, quads: boolean, elements: boolean): readonly ('quad' | 'element')[] {
  return [...(elements || (quads && operands[name].dim % 4 !== 0) ? (['element'] as const) : []), ...(quads ? (['quad'] as const) : [])];
}

/** Who this invocation is: its team and lane, and where the rows of its block and its keys begin. */
export function writePlace(kernel: KernelBody, plan: Plan): void {
  const { writer } = kernel;
  const field = (name: (typeof taskFields)[number]): string => `integers[taskAt + ${taskFields.indexOf(name)}u]`;
  writer.section('This block of query rows, and this invocation’s team and lane.');
  writer.line(
    `let taskAt = parameters.tasksAt + ${taskFields.length}u * task;`,
    `let sequence = sequenceAt(${field('sequence')});`,
    `let head = ${field('head')};`,
    'let keyHead = head * parameters.keyHeads / parameters.heads;',
    `let rowsAt = u32(${field('rowsAt')});`,
    `let rowCount = u32(${field('rowCount')});`,
    `let runsAt = u32(${field('runsAt')});`,
    `let runCount = u32(${field('runCount')});`,
    'let team = local / lanes;',
    'let lane = local % lanes;',
    'let firstQueryRow = rowInTensor(sequence, head, 0);',
    'let firstKeyRow = u32((sequence.tensorBatch * parameters.keyHeads + keyHead) * parameters.keyRows + sequence.keyStart);',
  );
  writeRandomKeys(kernel, plan);
}

/** The key of each random stream, for the sequence and head at hand (L14). */
export function writeRandomKeys({ writer, lowering, builtins }: KernelBody, { streams }: Plan): void {
  streams.forEach(([seed, stream], index) => {
    builtins.add('threefry');
    const key = lowering().lower({ kind: 'uniform', type: 'i32', name: seed });
    writer.line(`let randomKey${index} = threefry(vec2<u32>(bitcast<u32>(${key}), ${stream}u), vec2<u32>(bitcast<u32>(sequence.id), u32(head) + parameters.headOffset));`);
  });
}

/** A loop over the tiles of the task's runs; within, keys first … end − 1 with `ordinal` counting the tiles. Every invocation has its turn at every tile. */
export function forTiles({ writer }: KernelBody, body: () => void): void {
  writer.line('var ordinal = 0u;');
  writer.block('for (var run = 0u; run < runCount; run++)', () => {
    const field = (name: (typeof runFields)[number]): string => `integers[runsAt + ${runFields.length}u * run + ${runFields.indexOf(name)}u]`;
    writer.line(`let end = ${field('end')};`, `let mixed = ${field('mixed')} != 0;`);
    writer.block(`for (var first = ${field('first')}; first < end; first += i32(blockKey))`, () => {
      body();
      writer.line('ordinal += 1u;');
    });
  });
}

/** A loop over the rows of this team: `slot` in the block, the row's index, position and place in the query tensor. */
export function forRows({ writer }: KernelBody, body: () => void): void {
  writer.block('for (var part = 0u; part < rows; part++)', () => {
    writer.line(
      'let slot = part * teams + team;',
      'let queryIndex = integers[rowsAt + min(slot, rowCount - 1u)];',
      'let queryPosition = positionAt(sequence.queryPositions, sequence.queryOffset, queryIndex);',
      'let queryRow = firstQueryRow + u32(queryIndex);',
    );
    body();
  });
}

/** A loop over this lane's four keys of the tile: their places in it, index and position. */
export function forKeys({ writer }: KernelBody, mixed: boolean, body: () => void): void {
  writer.block(`for (var turn = 0u; turn < ${laneKeys}u; turn++)`, () => {
    writer.line('let keyPlace = first + i32(turn * lanes + lane);', `let keyIndex = ${mixed ? 'min(keyPlace, end - 1)' : 'keyPlace'};`);
    writer.line('let keyPosition = positionAt(sequence.keyPositions, sequence.keyOffset, keyIndex);');
    body();
  });
}

/** Sums over channels of every pair of the tile, into `tile`: each lane writes its own pairs. */
export function writeCombined(kernel: KernelBody, request: AttentionRequest, plan: Plan): void {
  const { writer } = kernel;
  writer.section('1  combine: sums over channels');
  if (isProduct(request.variant.scoring.combine)) {
    writeProducts(kernel, plan);
    return;
  }
  forRows(kernel, () => {
    writer.block(`for (var turn = 0u; turn < ${laneKeys}u; turn++)`, () => {
      writer.line('let keyRow = firstKeyRow + u32(min(first + i32(turn * lanes + lane), end - 1));');
      writeCombinedPair(kernel, request, plan);
      writer.line('tile[pairAt(slot, lane)][turn] = combined;');
    });
  });
}

/** The sum over channels of one pair, of rows `queryRow` and `keyRow`, element by element. */
export function writeCombinedPair({ writer, lowering }: KernelBody, { variant }: AttentionRequest, plan: Plan): void {
  writer.line('var combined = 0.0f;');
  writer.block(`for (var channel = 0i; channel < ${plan.scoreDim}i; channel++)`, () => {
    writer.line('let ofQuery = queryElement(queryRow, u32(channel));', 'let ofKey = keyElement(keyRow, u32(channel));');
    // Lowering may write locals, which stand behind what they read.
    writer.line(`combined += ${lowering({ queryElement: 'ofQuery', keyElement: 'ofKey' }).lower(variant.scoring.combine)};`);
  });
}

function writeProducts({ writer }: KernelBody, { tile, scoreDim }: Plan): void {
  const quads = Math.ceil(scoreDim / 4);
  const chunk = Math.min(tile.chunk, quads);
  const slots = range(tile.rows);
  for (const row of slots) writer.line(`let query${row} = firstQueryRow + u32(integers[rowsAt + min(${row}u * teams + team, rowCount - 1u)]);`);
  // Zeros are written out: SwiftShader keeps what a `var` without a value held in the turn before.
  writer.line(`var combined = array<vec4<f32>, ${tile.rows}>();`);
  const width = quads % chunk === 0 ? `${chunk}u` : 'width';
  const products = (start: string): void => {
    if (width === 'width') writer.line(`let width = min(${chunk}u, ${quads}u - chunk);`);
    writer.block(`for (var place = local; place < ${width} * blockKey; place += lanes * teams)`, () => {
      writer.line(`let quad = place % ${width};`, `let key = place / ${width};`);
      writer.line(`tile[quad * (blockKey + 1u) + key] = keyQuad(firstKeyRow + u32(min(first + i32(key), end - 1)), ${start}quad);`);
    });
    writer.line('workgroupBarrier();');
    writer.block(`for (var quad = 0u; quad < ${width}; quad++)`, () => {
      writer.line('let at = quad * (blockKey + 1u) + lane;', 'let keys = mat4x4<f32>(tile[at], tile[at + lanes], tile[at + 2u * lanes], tile[at + 3u * lanes]);');
      for (const row of slots) writer.line(`combined[${row}] += queryQuad(query${row}, ${start}quad) * keys;`);
    });
    writer.line('workgroupBarrier();');
  };
  if (chunk === quads) products('');
  else writer.block(`for (var chunk = 0u; chunk < ${quads}u; chunk += ${chunk}u)`, () => { products('chunk + '); });
  for (const row of slots) writer.line(`tile[pairAt(${row}u * teams + team, lane)] = combined[${row}];`);
}

/**
 * One pair from its sum over channels: `score` after every modifier; in a mixed tile whether the pair is `present`: allowed, with a score above −∞; and `term`,
 * which the normalization takes.
 */
export function writePair({ writer, lowering }: KernelBody, { variant }: AttentionRequest, mixed: boolean, { stage = null, pair = 'tile[pairAt(slot, lane)][turn]' }: { readonly stage?: ObservedStage | null; readonly pair?: string } = {}): void {
  const { scoring, masking, normalization } = variant;
  writer.line(`var score = ${lowering().lower(scoring.scale)} * ${pair};`);
  if (stage !== 'scores') for (const { name, expression } of scoring.modifiers) writer.line(`score = ${lowering().lower(expression)};  // ${name}`);
  if (stage === 'scores' || stage === 'modified') return;
  const { allowed } = masking;
  const forbids = allowed.kind === 'constant' ? (allowed.value === 0 ? 'false' : '') : mixed ? `(${lowering().lower(allowed)})` : '';
  const conditions = [...(mixed ? ['keyPlace < end'] : []), ...(forbids === '' ? [] : [forbids]), 'score > lowest'];
  writer.line(`let present = ${conditions.join(' && ')};`);
  if (stage === 'masked') return;
  writer.line(`let term = ${lowering().lower(normalization.rule.score)};`);
}

/** Statements twice where a mask decides pair by pair: for tiles that it cuts through, and without any of its code for those that it fills. */
export function forBothTiles({ writer }: KernelBody, body: (mixed: boolean) => void): void {
  writer.block('if (mixed)', () => { body(true); });
  writer.block('else', () => { body(false); });
}

export function range(count: number): readonly number[] {
  return Array.from({ length: count }, (_, index) => index);
}

/** The bits of a number, or those of 0 or −∞ for a row that sees nothing; −∞ is written as bits alone. */
export function orEmpty(value: string, empty: '0u' | '0xff800000u', condition: string): string {
  return `select(bitcast<u32>(${value}), ${empty}, ${condition})`;
}
