/** Steps of a piece in WGSL: the lanes of one workgroup share the elements of each matrix, which stands in the lane's part of `work`, and meet after every step. */
import type { RowKernel } from '@heed/runtime-webgpu';
import type { Matrix } from '../layout.ts';
import { scalarNames, type Count, type RateMatrices, type ScalarName, type TrainingPlan, type TrainingStep } from '../plan.ts';

/** Lanes of a workgroup. */
export const trainingLanes = 128;

const count = (one: Count): string => (one === 'tokens' ? 'tokens' : `${one}u`);

/** An element of a matrix. */
export const at = ({ at: start, stride }: Matrix, row: string, column: string): string => `work[base + ${start}u + ${row} * ${stride}u + ${column}]`;

/** Every element of `rows` × `columns`, as `row` and `column`; then the lanes meet. */
export function overElements({ writer }: RowKernel, rows: Count, columns: Count, body: () => void): void {
  writer.block(`for (var element = local; element < ${count(rows)} * ${count(columns)}; element += ${trainingLanes}u)`, () => {
    writer.line(`let row = element / ${count(columns)};`, `let column = element % ${count(columns)};`);
    body();
  });
  meet({ writer });
}

export function meet({ writer }: Pick<RowKernel, 'writer'>): void {
  writer.line('storageBarrier();');
}

/** Every token of the piece, one lane each; then the lanes meet. */
function overTokens({ writer }: RowKernel, body: () => void): void {
  writer.block(`for (var token = local; token < tokens; token += ${trainingLanes}u)`, body);
  meet({ writer });
}

function scalar({ rates }: TrainingPlan, name: ScalarName | 1): string {
  if (name === 1) return '1.0f';
  if (rates === null) throw new RangeError('a plan without rates has no factors');
  return at(rates.scalars, '0u', `${scalarNames.indexOf(name)}u`);
}

export function writeStep(kernel: RowKernel, plan: TrainingPlan, step: TrainingStep): void {
  const { writer } = kernel;
  switch (step.step) {
    case 'product':
      writeProduct(kernel, step);
      return;
    case 'scaleRows':
      overElements(kernel, 'tokens', step.from.columns, () => writer.line(`${at(step.to, 'row', 'column')} = ${at(step.by, '0u', 'row')} * ${at(step.from, 'row', 'column')};`));
      return;
    case 'map':
      overElements(kernel, 'tokens', step.to.columns, () => {
        const inner = (): void => {
          writer.line(`let input = ${at(step.from, 'row', 'column')};`);
          const value = kernel.lowering({ element: 'input' }).lower(step.expression);
          const target = at(step.to, 'row', 'column');
          writer.line(`${target} = ${step.effect === 'set' ? value : `${target} * (${value})`};`);
        };
        if (step.to.columns === step.from.columns) inner();
        else {
          writer.block(`if (column < ${step.from.columns}u)`, inner);
          writer.block('else', () => writer.line(`${at(step.to, 'row', 'column')} = 1.0f;`));
        }
      });
      return;
    case 'error':
      writeError(kernel, plan, step);
      return;
    case 'append':
      overElements(kernel, 'tokens', step.from.columns, () => writer.line(`${at(step.to, '(filled + row)', 'column')} = ${at(step.from, 'row', 'column')};`));
      return;
    case 'convolve':
      writeConvolve(kernel, plan, step);
      return;
    case 'rates':
      writer.block('if (local == 0u)', () => {
        if (plan.rates !== null) writeRates(kernel, plan.rates);
      });
      meet(kernel);
      return;
    case 'finish':
      writeFinish(kernel, plan, step.from);
      return;
    case 'combine':
      overElements(kernel, step.to.rows, step.to.columns, () => {
        const target = at(step.to, 'row', 'column');
        writer.line(`${target} = ${scalar(plan, step.keep)} * ${target} + ${scalar(plan, step.add)} * ${at(step.from, 'row', 'column')};`);
      });
      return;
    case 'scale':
      overElements(kernel, step.to.rows, step.to.columns, () => writer.line(`${at(step.to, 'row', 'column')} *= ${scalar(plan, step.by)};`));
      return;
    case 'clear':
      overElements(kernel, step.to.rows, step.to.columns, () => writer.line(`${at(step.to, 'row', 'column')} = 0.0f;`));
      return;
    case 'copy':
      overElements(kernel, step.to.rows, step.to.columns, () => writer.line(`${at(step.to, 'row', 'column')} = ${at(step.from, 'row', 'column')};`));
      return;
    case 'when':
      writer.block(`if (${step.condition === 'batchBegan' ? 'filled > 0u' : 'batchEnds'})`, () => {
        for (const inner of step.steps) writeStep(kernel, plan, inner);
      });
  }
}

function writeProduct(kernel: RowKernel, { form, to, left, right, rows, columns, depth, effect, times }: Extract<TrainingStep, { step: 'product' }>): void {
  const { writer } = kernel;
  writer.section(`${to.name} ← ${effect} ${left.name} × ${right.name}, ${form}`);
  overElements(kernel, rows, columns, () => {
    writer.line('var sum = 0.0f;');
    writer.block(`for (var inner = 0u; inner < ${count(depth)}; inner++)`, () => {
      const factor = form === 'leftTransposed' ? at(left, 'inner', 'row') : at(left, 'row', 'inner');
      writer.line(`sum = fma(${factor}, ${form === 'rightTransposed' ? at(right, 'column', 'inner') : at(right, 'inner', 'column')}, sum);`);
    });
    const target = at(to, 'row', 'column');
    const value = times === undefined ? 'sum' : `sum * ${at(times, 'row', 'column')}`;
    writer.line(`${target} ${effect === 'set' ? '=' : effect === 'add' ? '+=' : '-='} ${value};`);
  });
}

/** `mean` and `factor` = 1/√(variance + ε) of a row. */
function writeStandard({ writer }: RowKernel, matrix: Matrix, columns: number): void {
  writer.line('var mean = 0.0f;');
  writer.block(`for (var column = 0u; column < ${columns}u; column++)`, () => writer.line(`mean += ${at(matrix, 'token', 'column')};`));
  writer.line(`mean /= ${columns}.0f;`, 'var squares = 0.0f;');
  writer.block(`for (var column = 0u; column < ${columns}u; column++)`, () => writer.line(`let centred = ${at(matrix, 'token', 'column')} - mean;`, 'squares = fma(centred, centred, squares);'));
  writer.line(`let factor = 1.0f / sqrt(squares / ${columns}.0f + parameters.epsilon);`);
}

/** u = (h − mean(h) − x̂ · mean(h ⊙ x̂)) · factor with h = gain ⊙ (norm(z) − target); without a norm u = z − target. */
function writeError(kernel: RowKernel, { gain, shift, valueDim }: TrainingPlan, { to, prediction, target }: Extract<TrainingStep, { step: 'error' }>): void {
  const { writer } = kernel;
  if (gain === null || shift === null) {
    overElements(kernel, 'tokens', valueDim, () => writer.line(`${at(to, 'row', 'column')} = ${at(prediction, 'row', 'column')} - ${at(target, 'row', 'column')};`));
    return;
  }
  const unit = `(${at(prediction, 'token', 'column')} - mean) * factor`;
  overTokens(kernel, () => {
    writeStandard(kernel, prediction, valueDim);
    writer.line('var sum = 0.0f;', 'var along = 0.0f;');
    writer.block(`for (var column = 0u; column < ${valueDim}u; column++)`, () => {
      const gains = at(gain, '0u', 'column');
      writer.line(`let unit = ${unit};`, `let h = ${gains} * (fma(${gains}, unit, ${at(shift, '0u', 'column')}) - ${at(target, 'token', 'column')});`);
      writer.line('sum += h;', 'along = fma(h, unit, along);', `${at(to, 'token', 'column')} = h;`);
    });
    writer.line(`sum /= ${valueDim}.0f;`, `along /= ${valueDim}.0f;`);
    writer.block(`for (var column = 0u; column < ${valueDim}u; column++)`, () => writer.line(`${at(to, 'token', 'column')} = (${at(to, 'token', 'column')} - sum - ${unit} * along) * factor;`));
  });
}

function writeFinish(kernel: RowKernel, { gain, shift, valueDim, query, residual }: TrainingPlan, from: Matrix): void {
  const { writer } = kernel;
  overTokens(kernel, () => {
    if (gain !== null) writeStandard(kernel, from, valueDim);
    writer.block(`for (var column = 0u; column < ${valueDim}u; column++)`, () => {
      const read = gain === null || shift === null ? at(from, 'token', 'column') : `fma(${at(gain, '0u', 'column')}, (${at(from, 'token', 'column')} - mean) * factor, ${at(shift, '0u', 'column')})`;
      writer.line(`output[(u32(outputRow) + first + token) * ${valueDim}u + column] = ${read}${residual ? ` + ${at(query, 'token', 'column')}` : ''};`);
    });
  });
}

function writeConvolve(kernel: RowKernel, { batch }: TrainingPlan, { to, from, taps }: Extract<TrainingStep, { step: 'convolve' }>): void {
  const { writer } = kernel;
  overElements(kernel, batch, from.columns, () => {
    if (taps === null) {
      writer.line(`${at(to, 'row', 'column')} = parameters.rate * ${at(from, 'row', 'column')};`);
      return;
    }
    const centre = (taps.rows - 1) / 2;
    writer.line('var sum = 0.0f;');
    writer.block(`for (var tap = 0u; tap < ${taps.rows}u; tap++)`, () => {
      writer.line('let place = row + tap;');
      writer.block(`if (place >= ${centre}u && place < ${batch + centre}u)`, () => writer.line(`sum = fma(${at(taps, 'tap', 'column')}, ${at(from, `(place - ${centre}u)`, 'column')}, sum);`));
    });
    writer.line(`${at(to, 'row', 'column')} = parameters.rate * sum;`);
  });
}

/** A number of an input at a token of the piece; −∞ as the lowest number. */
const input = (name: string): string => `finite(inputs[u32(${name} + i32(first + token) * ${name}Step)])`;

/** As `wasm/rates.ts` says: α, β and the coefficients of gradients, one number after another. */
function writeRates(kernel: RowKernel, rates: RateMatrices): void {
  const { writer, builtins } = kernel;
  const { optimizer, next, last, alpha, beta, coefficients, tokenRate, scalars } = rates;
  builtins.add('finite');
  const keep = (name: ScalarName, value: string): void => {
    writer.line(`${at(scalars, '0u', `${scalarNames.indexOf(name)}u`)} = ${value};`);
  };
  if (optimizer === 'accumulate') {
    writer.block('for (var token = 0u; token < tokens; token++)', () => {
      writer.line(`${at(next, '0u', 'token')} = ${input('writeStrength')};`);
      const raised = `1.0f / f32(filled + token + 1u)${tokenRate === null ? '' : ` + ${at(tokenRate, '0u', '(filled + token)')}`}`;
      writer.line(`let factor = parameters.rate * max(${raised}, 0.0f);`, `${at(beta, '0u', 'token')} = -factor;`);
      keep('beta', '-factor');
      writer.block('for (var other = 0u; other <= token; other++)', () => writer.line(`${at(coefficients, 'token', 'other')} = factor * ${at(next, '0u', 'other')};`));
    });
    return;
  }
  builtins.add('exponential');
  writer.line('var kept = 1.0f;', 'var carried = 0.0f;', 'var product = 1.0f;');
  writer.block('for (var token = 0u; token < tokens; token++)', () => {
    writer.line(`let decay = exponential(${input('logDecay')});`, `let moving = ${input('momentum')};`, `let strength = ${input('writeStrength')};`);
    writer.line('product *= moving;', 'kept *= decay;', 'carried = carried * decay + product;', `${at(alpha, '0u', 'token')} = kept;`, `${at(beta, '0u', 'token')} = carried;`);
    writer.block('for (var other = 0u; other < token; other++)', () => {
      writer.line(`let ahead = moving * ${at(next, '0u', 'other')};`, `let through = decay * ${at(last, '0u', 'other')} + ahead;`);
      writer.line(`${at(next, '0u', 'other')} = ahead;`, `${at(last, '0u', 'other')} = through;`, `${at(coefficients, 'token', 'other')} = through;`);
    });
    writer.line(`${at(next, '0u', 'token')} = strength;`, `${at(last, '0u', 'token')} = strength;`, `${at(coefficients, 'token', 'token')} = strength;`);
  });
  keep('alpha', 'kept');
  keep('beta', 'carried');
  keep('momentum', 'product');
}
