import { isProduct, type AttentionRequest, type ObservedStage } from '@heed/core';
import { pairExpressions, queryTablesOf } from '@heed/core/compute';
import type { Plan } from '../plan.ts';
import { runFields, taskFields } from '../records.ts';
import type { KernelBody, ModuleOptions, StorageBinding } from './module.ts';

/** Storage that every kernel over pairs has, in the order of bindings from 1 on. */
export const pairBindings: readonly StorageBinding[] = [
  { name: 'query', element: 'f32', comment: '[batch, heads, queryRows, scoreDim], transformed' },
  { name: 'key', element: 'f32', comment: '[batch, keyHeads, keyRows, scoreDim], transformed' },
  { name: 'value', element: 'f32', comment: '[batch, keyHeads, keyRows, valueDim], prepared' },
  { name: 'integers', element: 'i32', comment: 'sequences, tasks, rows, runs of keys, positions' },
  { name: 'tables', element: 'u32', comment: 'every table of the variant, one after another' },
  { name: 'output', element: 'u32', write: true, comment: 'bits of f32 [batch, heads, queryRows, valueDim]' },
  { name: 'statistics', element: 'u32', write: true, comment: 'bits of f32, planes of [batch, heads, queryRows]' },
];

/** What kernels over pairs have in common, for `moduleOf`. */
export function pairModule({ variant }: AttentionRequest, plan: Plan): Pick<ModuleOptions, 'variant' | 'plan' | 'invocations' | 'queryTables' | 'declarations'> {
  const { blockQuery, blockKey } = plan;
  return {
    variant,
    plan,
    invocations: blockQuery * blockKey,
    queryTables: queryTablesOf(pairExpressions(variant)),
    declarations: [
      `// One number for each pair of the tile, [${blockQuery}][${blockKey}].`,
      `var<workgroup> pairs: array<f32, ${blockQuery * blockKey}>;`,
    ],
  };
}

/** Who this invocation is: a query row by its slot in the block, and a lane that takes one key of each tile. */
export function writePlace({ writer, lowering, builtins }: KernelBody, { blockKey, scoreDim, streams }: Plan): void {
  const field = (name: (typeof taskFields)[number]): string => `integers[taskAt + ${taskFields.indexOf(name)}u]`;
  writer.section('This block of query rows, and this invocation’s row and lane.');
  writer.line(
    `let taskAt = parameters.tasksAt + ${taskFields.length}u * task;`,
    `let sequence = sequenceAt(${field('sequence')});`,
    `let head = ${field('head')};`,
    'let keyHead = head * parameters.keyHeads / parameters.heads;',
    `let rowsAt = u32(${field('rowsAt')});`,
    `let rowCount = u32(${field('rowCount')});`,
    `let runsAt = u32(${field('runsAt')});`,
    `let runCount = u32(${field('runCount')});`,
    `let slot = local / ${blockKey}u;`,
    `let lane = local % ${blockKey}u;`,
    'let queryIndex = integers[rowsAt + min(slot, rowCount - 1u)];',
    'let queryPosition = positionAt(sequence.queryPositions, sequence.queryOffset, queryIndex);',
    'let outputRow = u32((sequence.tensorBatch * parameters.heads + head) * parameters.queryRows + sequence.queryStart + queryIndex);',
    `let queryAt = outputRow * ${scoreDim}u;`,
    'let firstKeyRow = u32((sequence.tensorBatch * parameters.keyHeads + keyHead) * parameters.keyRows + sequence.keyStart);',
  );
  streams.forEach(([seed, stream], index) => {
    builtins.add('threefry');
    const key = lowering().lower({ kind: 'uniform', type: 'i32', name: seed });
    writer.line(`let randomKey${index} = threefry(vec2<u32>(bitcast<u32>(${key}), ${stream}u), vec2<u32>(bitcast<u32>(sequence.id), u32(head) + parameters.headOffset));`);
  });
}

/** A loop over the tiles of the task's runs; within, keys first … end − 1 with `ordinal` counting the tiles. */
export function forTiles({ writer }: KernelBody, { blockKey }: Plan, body: () => void): void {
  writer.line('var ordinal = 0u;');
  writer.block('for (var run = 0u; run < runCount; run++)', () => {
    const field = (name: (typeof runFields)[number]): string => `integers[runsAt + ${runFields.length}u * run + ${runFields.indexOf(name)}u]`;
    writer.line(`let end = ${field('end')};`, `let mixed = ${field('mixed')} != 0;`);
    writer.block(`for (var first = ${field('first')}; first < end; first += ${blockKey}i)`, () => {
      body();
      writer.line('ordinal += 1u;');
    });
  });
}

/** This lane's key of the tile, its score after every modifier, and whether it is `present`: allowed, with a score above −∞. `term` is what the normalization takes. */
export function writeScores(kernel: KernelBody, request: AttentionRequest, plan: Plan, stage: ObservedStage | null): void {
  const { writer, lowering } = kernel;
  const { scoring, masking, normalization } = request.variant;
  writer.line('let keyIndex = min(first + i32(lane), end - 1);', 'let inside = first + i32(lane) < end;', 'let keyPosition = positionAt(sequence.keyPositions, sequence.keyOffset, keyIndex);');
  writer.section('1  combine: a sum over channels');
  writeCombined(kernel, request, plan);
  writer.section('2  scale and modify');
  writer.line(`var score = ${lowering().lower(scoring.scale)} * combined;`);
  if (stage !== 'scores') for (const { name, expression } of scoring.modifiers) writer.line(`score = ${lowering().lower(expression)};  // ${name}`);
  if (stage === 'scores' || stage === 'modified') return;
  writer.section('3  mask');
  writer.line('var allowed = inside;');
  if (masking.allowed.kind !== 'constant') {
    writer.block('if (mixed)', () => writer.line(`allowed = inside && (${lowering().lower(masking.allowed)});`));
  } else if (masking.allowed.value === 0) writer.line('allowed = false;');
  writer.line('let present = allowed && score > lowest;');
  if (stage === 'masked') return;
  writer.line(`let term = ${lowering().lower(normalization.rule.score)};`);
}

function writeCombined({ writer, lowering }: KernelBody, { variant }: AttentionRequest, { scoreDim }: Plan): void {
  const { combine } = variant.scoring;
  writer.line(`let keyAt = (firstKeyRow + u32(keyIndex)) * ${scoreDim}u;`, 'var combined = 0.0f;');
  writer.block(`for (var offset = 0u; offset < ${scoreDim}u; offset++)`, () => {
    if (isProduct(combine)) writer.line('combined = fma(query[queryAt + offset], key[keyAt + offset], combined);');
    else {
      writer.line('let channel = i32(offset);', 'let queryElement = query[queryAt + offset];', 'let keyElement = key[keyAt + offset];');
      // Lowering may write locals, which stand behind what they read.
      writer.line(`combined += ${lowering().lower(combine)};`);
    }
  });
}

/** The lanes of this row, one after another, so that every run adds in the same order. */
export function overLanes({ writer }: KernelBody, { blockKey }: Plan, body: (pair: string) => void): void {
  writer.block(`for (var other = 0u; other < ${blockKey}u; other++)`, () => {
    body(`pairs[slot * ${blockKey}u + other]`);
  });
}

/** The bits of a number, or those of 0 or −∞ for a row that sees nothing; −∞ is written as bits alone. */
export function orEmpty(value: string, empty: '0u' | '0xff800000u', condition: string): string {
  return `select(bitcast<u32>(${value}), ${empty}, ${condition})`;
}
