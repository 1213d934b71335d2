/** From terms to weights, in scratch: every lane reads and writes the places local, local + lanes, … of its row, and no others. */
import type { AttentionRequest } from '@heed/core';
import type { RowKernel } from '@heed/runtime-webgpu';
import { orEmpty, writeEdge } from './edge.ts';
import type { Plan } from './plan.ts';

/** Halvings of an interval of length 1: the last is below the spacing of float32 near 1. */
const halvings = 28;

/** Weights in place of the terms; locals `largest` and `empty` say whether any edge counts. */
export function writeWeights(kernel: RowKernel, request: AttentionRequest, plan: Plan): void {
  const { writer, lowering, builtins } = kernel;
  const { rule, reweigh } = request.variant.normalization;
  const sumOf = (name: string, term: string): void => {
    writer.line(`var ${name}Own = 0.0f;`);
    overOwn(kernel, () => writer.line(`${name}Own += ${term};`));
    writer.line(`let ${name} = rowSum(local, ${name}Own, places);`);
  };
  writer.section('4  normalize');
  writer.line('var largestOwn = lowest;');
  overOwn(kernel, () => writer.line('largestOwn = max(largestOwn, term);'));
  writer.line('let largest = rowMaximum(local, largestOwn, places);', 'let empty = places == 0u || largest <= lowest;');
  if (plan.statistics.includes('count')) sumOf('count', '1.0f');
  let weight = 'term';
  switch (rule.kind) {
    case 'softmax':
      builtins.add('exponential').add('naturalLogarithm');
      if (rule.sink === null) writer.line('let peak = select(largest, lowest, empty);');
      else writer.line(`let sink = ${lowering().lower(rule.sink)};`, 'let peak = max(select(largest, lowest, empty), sink);');
      sumOf('total', 'exponential(term - peak)');
      writer.line(`let whole = total${rule.sink === null ? '' : ' + exponential(sink - peak)'};`, 'let normalizer = peak + naturalLogarithm(whole);');
      weight = 'exponential(term - peak) / whole';
      break;
    case 'hardMax':
      // Ties go to the lower key, wherever its edge stands in the list.
      writer.line('var winnerOwn = -1.0e9f;');
      overOwn(kernel, () => writer.line('winnerOwn = select(winnerOwn, max(winnerOwn, -f32(integers[keysAt + place])), term == largest);'));
      writer.line('let winner = i32(-rowMaximum(local, winnerOwn, places));');
      weight = 'select(0.0f, 1.0f, integers[keysAt + place] == winner)';
      break;
    case 'threshold':
      weight = writeThreshold(kernel, rule.alpha, sumOf);
      break;
    case 'elementwise':
      break;
    case 'rowSum':
      sumOf('total', 'term');
      if (plan.partial) break;
      writer.line(`let whole = total + ${lowering().lower(rule.epsilon)};`);
      weight = 'term / whole';
      break;
  }
  const reweighs = reweigh.kind !== 'input' && plan.observed === null;
  writer.section(reweighs ? '5  reweigh' : 'Weights take the place of the terms.');
  overOwn(kernel, () => {
    if (reweighs) {
      writeEdge(kernel);
      writer.line(`let weight = ${weight};`);
      writer.line(`scratch[scratchAt + place] = ${lowering().lower(reweigh)};`);
    } else writer.line(`scratch[scratchAt + place] = ${weight};`);
  });
}

/** What is written for each row beside the output. */
export function writeStatistics({ writer }: RowKernel, { variant }: AttentionRequest, plan: Plan): void {
  const { rule } = variant.normalization;
  if (plan.statistics.length === 0) return;
  writer.block('if (local == 0u)', () => {
    const sees = rule.kind === 'softmax' && rule.sink !== null ? 'empty && sink <= lowest' : 'empty';
    plan.statistics.forEach((statistic, plane) => {
      const at = plane === 0 ? 'queryRow' : 'parameters.rowCount + queryRow';
      const value = statistic === 'logSumExp' ? orEmpty('normalizer', '0xff800000u', sees) : `bitcast<u32>(${statistic === 'count' ? 'count' : 'total'})`;
      writer.line(`statistics[${at}] = ${value};`);
    });
  });
}

/** The weights of a row that is looked at, at its keys. */
export function writeObserved(kernel: RowKernel): void {
  const { writer } = kernel;
  overOwn(kernel, () => writer.line('output[observedAt + u32(integers[keysAt + place])] = bitcast<u32>(term);'));
}

/** A loop over this lane's own places that hold a term. */
function overOwn({ writer }: RowKernel, body: () => void): void {
  writer.block('for (var place = local; place < places; place += lanes)', () => {
    writer.line('let term = scratch[scratchAt + place];');
    writer.block('if (term > lowest)', body);
  });
}

/** τ such that [(α − 1)·t − τ]₊^(1/(α−1)) sums to 1: by halving, then, for α = 2 and 1.5, exactly from the support that was found (Martins 2016; Peters 2019). */
function writeThreshold(kernel: RowKernel, alpha: number, sumOf: (name: string, term: string) => void): string {
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
    writer.line('let enough = rowSum(local, massOwn, places) >= 1.0f;', 'low = select(low, middle, enough);', 'high = select(middle, high, enough);');
  });
  if (alpha !== 2 && alpha !== 1.5) {
    sumOf('mass', raised(`max(${moved} - low, 0.0f)`));
    return `${raised(`max(${moved} - low, 0.0f)`)} / mass`;
  }
  sumOf('support', `select(0.0f, 1.0f, ${moved} > low)`);
  sumOf('supportSum', `select(0.0f, ${moved}, ${moved} > low)`);
  if (alpha === 2) writer.line('let threshold = (supportSum - 1.0f) / support;');
  else {
    writer.line('let centre = supportSum / support;');
    sumOf('spread', `select(0.0f, (${moved} - centre) * (${moved} - centre), ${moved} > low)`);
    writer.line('let threshold = centre - sqrt(max((1.0f - spread) / support, 0.0f));');
  }
  return raised(`max(${moved} - threshold, 0.0f)`);
}
