import type { Declarations } from '../expression/declarations.ts';
import { noDeclarations } from '../expression/declarations.ts';
import type { Expression } from '../expression/node.ts';
import { AttentionError } from '../errors.ts';

/** How a state changes with each token and what is read from it. Frozen plain data; `kind` says which fields follow. */
export type FastWeightRule = RecurrentRule | GradientRule | ChunkRule;

/** Inputs of a call beside query, key and value; a rule takes those that it reads and no other. */
export type FastWeightInputName = 'logDecay' | 'writeStrength' | 'removalKey' | 'removalWeight' | 'momentum';

// ── Rules over a matrix G [width, valueDim] ────────────────────────────────────────────────────────────────────────────

/**
 * One step of a token over the matrix G. A step sees G as the steps before it left it.
 *
 *     decay     G ← exp(logDecay) ⊙ G       one number for each head, for each head and token, or for each row of G
 *     recall    r ← Gᵀ x                    x = key or removalKey: what the memory holds there now
 *     remove    G ← G − (s ⊙ x) rᵀ          s = writeStrength, removalWeight, or 1
 *     write     G ← G + s · key valueᵀ
 *     read      output ← scale · Gᵀ query   divided by (scale · zᵀ query + ε) where the variant has a row sum
 */
export type FastWeightStep =
  | { readonly step: 'decay'; readonly by: DecayAxis }
  | { readonly step: 'recall'; readonly by: 'key' | 'removalKey' }
  | { readonly step: 'remove'; readonly along: 'key' | 'removalKey'; readonly strength: 'writeStrength' | 'removalWeight' | null }
  | { readonly step: 'write'; readonly strength: 'writeStrength' | null }
  | { readonly step: 'read' };

/** What `logDecay` differs by: the head alone, the head and the token, or those and the channel of the key. */
export type DecayAxis = 'head' | 'step' | 'channel';

/**
 * A rule that is linear in G, said by its steps in order: backends read the steps, not the name.
 * One write and one read; at most one decay, recall and remove; a remove stands after its recall.
 */
export interface RecurrentRule extends Declarations {
  readonly kind: 'recurrent';
  readonly name: string;
  readonly steps: readonly FastWeightStep[];
}

/**
 * A recurrent rule from its steps.
 * @throws AttentionError `invalid-variant`
 */
export function recurrentRule(name: string, steps: readonly FastWeightStep[]): RecurrentRule {
  const count = (step: FastWeightStep['step']): number => steps.filter((one) => one.step === step).length;
  const order = steps.map(({ step }) => step);
  const fail = (what: string): never => {
    throw new AttentionError('invalid-variant', `The rule '${name}' has the steps ${order.join(', ')}: ${what}.`, 'Expected one write, one read, at most one decay, and a recall with the remove that uses it after it, or neither.');
  };
  if (order.some((step) => !['decay', 'recall', 'remove', 'write', 'read'].includes(step))) fail('one of them is unknown');
  if (count('write') !== 1 || count('read') !== 1) fail('it writes or reads more or less than once');
  if (count('decay') > 1) fail('it decays more than once');
  if (count('recall') !== count('remove') || count('recall') > 1) fail('its recall and its remove do not match');
  if (order.indexOf('remove') < order.indexOf('recall')) fail('it removes before it recalls');
  return Object.freeze({ kind: 'recurrent', name, steps: Object.freeze(steps.map((step) => Object.freeze({ ...step }))), ...noDeclarations });
}

// ── Rules that train a small network ───────────────────────────────────────────────────────────────────────────────────

/**
 * The network that is trained while the sequence passes. Its tables hold the weights before the first token.
 *
 *     linear  f(x) = x·W (+ b)                        weight [valueHead, width, valueDim], bias [valueHead, valueDim]
 *     mlp     f(x) = activation(x·W₁ (+ b₁))·W₂ (+ b₂)  weight1 [valueHead, width, hiddenDim], bias1 [valueHead, hiddenDim],
 *                                                     weight2 [valueHead, hiddenDim, valueDim], bias2 [valueHead, valueDim]
 */
export interface InnerModel {
  readonly layers: 1 | 2;
  readonly bias: boolean;
  /** Between the layers of an mlp; null for a linear model. geluTanh: ½x(1 + tanh(√(2/π)(x + 0.044715x³))); silu: x·σ(x). */
  readonly activation: Activation | null;
  /** hiddenDim = expansion · width; part of the structure. 0 for a linear model. */
  readonly expansion: number;
}

export type Activation = 'geluTanh' | 'silu';

/** Layer norm of what the inner model returns: (x − mean) / √(variance + ε) · normGain + normShift, both [valueHead, valueDim]. */
export interface InnerNorm {
  readonly epsilon: Expression;
}

/**
 * How gradients move the weights. ∇ⱼ is the gradient of token j's loss at the weights that its mini-batch began with.
 *
 *     accumulate   Wᵢ = W − rate/width · max(1/i + tokenRateᵢ, 0) · Σ_{j ≤ i} writeStrengthⱼ ∇ⱼ     i, j = 1 … in the mini-batch, W at its start
 *     momentum     S ← momentum · S − writeStrength · ∇;   W ← exp(logDecay) · W + S
 */
export type InnerOptimizer =
  | { readonly kind: 'accumulate'; readonly rate: Expression; /** Table [miniBatch]; null: zeros. */ readonly tokenRate: string | null }
  | { readonly kind: 'momentum' };

/**
 * Test-time training: each token takes a step on ½‖norm(f(key)) − target‖², then reads norm(f(query)) from the weights after that step.
 */
export interface GradientRule extends Declarations {
  readonly kind: 'gradient';
  readonly name: string;
  readonly model: InnerModel;
  /** What f(key) should become: the value, or value − key, which needs valueDim = width. */
  readonly target: 'value' | 'valueMinusKey';
  readonly norm: InnerNorm | null;
  /** Tokens whose gradients are taken at the same weights. It changes the result; 1 trains token by token. */
  readonly miniBatch: number;
  readonly optimizer: InnerOptimizer;
  /** Adds the query to what was read; needs valueDim = width. */
  readonly residual: boolean;
}

// ── Rules that write whole chunks ──────────────────────────────────────────────────────────────────────────────────────

/**
 * In-Place test-time training: within a chunk every token reads the weights that the chunk began with; a full chunk then writes.
 *
 *     read    output_t = Gᵀ query_t
 *     write   G ← G + rate · Σ_{t in chunk} key_t (x̂_t P)ᵀ,   x̂ = depthwise convolution of the chunk's values, centred, zeros outside the chunk
 *
 * Tables: weight [valueHead, width, valueDim] (G before the first token), convolution [valueDim, taps] where taps is not null, projection [valueHead, valueDim, valueDim] (P).
 * Partial chunks never write: their tokens wait in the state.
 */
export interface ChunkRule extends Declarations {
  readonly kind: 'chunk';
  readonly name: string;
  readonly steps: readonly ['read', 'write'];
  /** Tokens of one write. It changes the result. */
  readonly chunk: number;
  /** Width of the convolution, odd; null: none. */
  readonly taps: number | null;
  /** Whether written values are multiplied by P. */
  readonly projection: boolean;
  readonly rate: Expression;
}

/** The inputs beside query, key and value that a rule reads: all required, and no other is taken. */
export function inputsOfRule(rule: FastWeightRule): readonly FastWeightInputName[] {
  switch (rule.kind) {
    case 'recurrent': {
      const names = rule.steps.flatMap((step): readonly (FastWeightInputName | 'key' | null)[] => {
        if (step.step === 'decay') return ['logDecay'];
        if (step.step === 'recall') return [step.by];
        if (step.step === 'remove') return [step.along, step.strength];
        return step.step === 'write' ? [step.strength] : [];
      });
      return [...new Set(names.filter((name) => name !== null && name !== 'key'))];
    }
    case 'gradient':
      return rule.optimizer.kind === 'accumulate' ? ['writeStrength'] : ['logDecay', 'writeStrength', 'momentum'];
    case 'chunk':
      return [];
  }
}
