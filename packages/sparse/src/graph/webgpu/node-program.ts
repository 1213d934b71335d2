/** Attention of one row of one head, by one workgroup: the keys of its edges are gathered and scored, the scores become weights, and the values are gathered by them. */
import { isProduct, type AttentionRequest } from '@heed/core';
import type { ProgramSource, RowKernel } from '@heed/runtime-webgpu';
import { writeAggregate } from './aggregate.ts';
import { writeEdge } from './edge.ts';
import { moduleOf, type StorageBinding } from './module.ts';
import { writeObserved, writeStatistics, writeWeights } from './normalize.ts';
import { nodeLanes, type Plan } from './plan.ts';

export function nodeProgram(request: AttentionRequest, plan: Plan): ProgramSource {
  const { observed } = plan;
  return moduleOf({
    name: observed === null ? 'nodes' : `observe ${observed}`,
    header: [`${observed === null ? 'Attention' : `The stage '${observed}'`} of one row of one head over its edges, a workgroup each.`, ...request.variant.structure.split('\n').map((line) => `  ${line}`)],
    variant: request.variant,
    plan,
    invocations: nodeLanes,
    queryTables: plan.queryTables,
    bindings: bindingsOf(plan),
    declarations: declarationsOf(plan),
    body: (kernel) => {
      writeNode(kernel, plan);
      writeScores(kernel, request, plan);
      if (observed === 'masked') return;
      writeWeights(kernel, request, plan);
      if (observed === 'weights') {
        writeObserved(kernel);
        return;
      }
      writeStatistics(kernel, request, plan);
      writeAggregate(kernel, request, plan);
    },
  });
}

function bindingsOf({ scoreDim, valueDim }: Plan): readonly StorageBinding[] {
  const element = (dim: number): string => (dim % 4 === 0 ? 'vec4<f32>' : 'f32');
  return [
    { name: 'query', element: element(scoreDim), comment: '[batch, heads, queryRows, scoreDim], transformed' },
    { name: 'key', element: element(scoreDim), comment: '[batch, keyHeads, keyRows, scoreDim], transformed' },
    { name: 'value', element: element(valueDim), comment: '[batch, keyHeads, keyRows, valueDim], prepared' },
    { name: 'integers', element: 'i32', comment: 'sequences, positions, where the edges of rows begin, keys of edges' },
    { name: 'tables', element: 'u32', comment: 'every table of the variant, one after another' },
    { name: 'output', element: 'u32', write: true, comment: 'bits of f32 [batch, heads, queryRows, valueDim]' },
    { name: 'statistics', element: 'u32', write: true, comment: 'bits of f32, planes of [batch, heads, queryRows]' },
    { name: 'scratch', element: 'f32', write: true, comment: 'terms, then weights, of the edges of this stage; lowest where there is none' },
  ];
}

function declarationsOf(plan: Plan): readonly string[] {
  const { scoreLanes, scoreDim, valueDim } = plan;
  return [
    `const lanes = ${nodeLanes}u;`,
    `const scoreLanes = ${scoreLanes}u;  // share the channels of one score`,
    `const scoreTeams = ${nodeLanes / scoreLanes}u;`,
    '',
    `var<workgroup> shares: array<f32, lanes>;`,
    `var<workgroup> products: array<f32, ${nodeLanes * (scoreLanes + 1)}>;  // [edge][lane + 1]: parts of scores`,
    `var<workgroup> sums: array<vec4<f32>, lanes>;`,
    '',
    ...reads('query', scoreDim),
    ...reads('key', scoreDim),
    ...reads('value', valueDim),
    ...(['Sum', 'Maximum'] as const).flatMap((name) => [
      `// Over the lanes that have edges, the same for all of them, in one order.
fn row${name}(local: u32, own: f32, places: u32) -> f32 {
  shares[local] = own;
  workgroupBarrier();
  var result = ${name === 'Sum' ? '0.0f' : 'shares[0]'};
  for (var lane = 0u; lane < min(lanes, places); lane++) {
    ${name === 'Sum' ? 'result += shares[lane];' : 'result = max(result, shares[lane]);'}
  }
  workgroupBarrier();
  return result;
}`,
      '',
    ]),
  ];
}

/** Functions that read four channels, or one, of a row of float32. */
function reads(name: string, dim: number): readonly string[] {
  const one = (channel: string): string => `${name}[row * ${dim}u + ${channel}]`;
  const quad = dim % 4 === 0
    ? `return ${name}[row * ${dim / 4}u + quad];`
    : `let channel = 4u * quad;\n  return vec4<f32>(${[0, 1, 2, 3].map((place) => (place === 0 ? one('channel') : `select(0.0f, ${one(`min(channel + ${place}u, ${dim - 1}u)`)}, channel + ${place}u < ${dim}u)`)).join(', ')});`;
  return [
    `fn ${name}Quad(row: u32, quad: u32) -> vec4<f32> {\n  ${quad}\n}`,
    '',
    `fn ${name}Element(row: u32, channel: u32) -> f32 {\n  return ${dim % 4 === 0 ? `${name}[row * ${dim / 4}u + channel / 4u][channel % 4u]` : one('channel')};\n}`,
    '',
  ];
}

/** Whose row this is, and where its edges stand. */
function writeNode({ writer, lowering, builtins }: RowKernel, { streams, observed }: Plan): void {
  writer.section('This row, and its edges.');
  writer.line(
    'let plane = i32(task) / parameters.queryRows;',
    'let queryIndex = i32(task) % parameters.queryRows;',
    'let head = plane % parameters.heads;',
    'let sequence = sequenceAt(plane / parameters.heads);',
    'let keyHead = head * parameters.keyHeads / parameters.heads;',
    'let queryRow = task;',
    'let queryPosition = positionAt(sequence.queryPositions, sequence.queryOffset, queryIndex);',
    'let firstKeyRow = u32((sequence.tensorBatch * parameters.keyHeads + keyHead) * parameters.keyRows);',
    'let firstEdge = u32(integers[parameters.startsAt + u32(queryIndex)]);',
    'let places = select(0u, u32(integers[parameters.startsAt + u32(queryIndex) + 1u]) - firstEdge, queryIndex < sequence.queryLength);',
    'let keysAt = parameters.edgesAt + firstEdge;',
    'let scratchAt = u32(plane) * parameters.edgeCount + firstEdge - parameters.scratchFirst;',
  );
  if (observed !== null) {
    writer.line('let observedHead = integers[parameters.observedHeadsAt + u32(head)];', 'let observedRow = integers[parameters.observedRowsAt + u32(queryIndex)];');
    writer.block('if (observedHead < 0 || observedRow < 0)', () => writer.line('return;'));
    writer.line('let observedAt = u32(((sequence.tensorBatch * parameters.observedHeads + observedHead) * parameters.observedRows + observedRow) * parameters.keyRows);');
  }
  streams.forEach(([seed, stream], index) => {
    builtins.add('threefry');
    const key = lowering().lower({ kind: 'uniform', type: 'i32', name: seed });
    writer.line(`let randomKey${index} = threefry(vec2<u32>(bitcast<u32>(${key}), ${stream}u), vec2<u32>(bitcast<u32>(sequence.id), u32(head) + parameters.headOffset));`);
  });
}

/** Terms of all edges to scratch: sums over channels by teams of lanes, then everything that a variant makes of a score, a lane for each edge. */
function writeScores(kernel: RowKernel, request: AttentionRequest, plan: Plan): void {
  const { writer, lowering } = kernel;
  const { scoring, masking, normalization } = request.variant;
  writer.section('1  combine: sums over channels');
  writer.line('let scoreTeam = local / scoreLanes;', 'let scoreLane = local % scoreLanes;');
  writer.block('for (var base = 0u; base < places; base += lanes)', () => {
    writer.block('for (var turn = 0u; turn < scoreLanes && base + turn * scoreTeams < places; turn++)', () => {
      writer.line('let slot = turn * scoreTeams + scoreTeam;', 'let place = base + slot;', 'var own = 0.0f;');
      writer.block('if (place < places)', () => {
        writer.line('let keyRow = firstKeyRow + u32(integers[keysAt + place]);');
        if (isProduct(scoring.combine)) {
          writer.block(`for (var quad = scoreLane; quad < ${Math.ceil(plan.scoreDim / 4)}u; quad += scoreLanes)`, () => writer.line('own += dot(queryQuad(queryRow, quad), keyQuad(keyRow, quad));'));
        } else {
          writer.line('let edgeIndex = i32(firstEdge + place);');
          writer.block(`for (var channel = i32(scoreLane); channel < ${plan.scoreDim}i; channel += i32(scoreLanes))`, () => {
            writer.line('let ofQuery = queryElement(queryRow, u32(channel));', 'let ofKey = keyElement(keyRow, u32(channel));');
            // Lowering may write locals, which stand behind what they read.
            writer.line(`own += ${lowering({ queryElement: 'ofQuery', keyElement: 'ofKey' }).lower(scoring.combine)};`);
          });
        }
      });
      writer.line('products[slot * (scoreLanes + 1u) + scoreLane] = own;');
    });
    writer.line('workgroupBarrier();', 'let place = base + local;');
    writer.block('if (place < places)', () => {
      writer.line('var combined = 0.0f;');
      writer.block('for (var lane = 0u; lane < scoreLanes; lane++)', () => writer.line('combined += products[local * (scoreLanes + 1u) + lane];'));
      writer.section('2  scale and modify, 3  mask');
      writeEdge(kernel);
      writer.line(`var score = ${lowering().lower(scoring.scale)} * combined;`);
      for (const { name, expression } of scoring.modifiers) writer.line(`score = ${lowering().lower(expression)};  // ${name}`);
      const { allowed } = masking;
      const conditions = ['keyIndex < sequence.keyLength', ...(allowed.kind === 'constant' && allowed.value !== 0 ? [] : [`(${lowering().lower(allowed)})`]), 'score > lowest'];
      writer.line(`let present = ${conditions.join(' && ')};`);
      if (plan.observed === 'masked') writer.line('output[observedAt + u32(keyIndex)] = select(0xff800000u, bitcast<u32>(score), present);');
      else {
        writer.line(`let term = ${lowering().lower(normalization.rule.score)};`);
        writer.line('scratch[scratchAt + place] = select(lowest, term, present);');
      }
    });
    writer.line('workgroupBarrier();');
  });
}
