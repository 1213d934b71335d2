import { AttentionError } from '@heed/core';
import { checkNames, type Names } from '@heed/core/compute';
import { fromOnnxAttention, type OnnxAttentionAttributes, type OnnxAttentionConversion, type OnnxAttentionInputs, type OnnxAttentionWishes } from './attention.ts';
import { fromOnnxLinearAttention, type OnnxLinearAttentionAttributes, type OnnxLinearAttentionConversion, type OnnxLinearAttentionInputs } from './linear-attention.ts';
import { attentionRules, firstRelease, isSince, onnxReleases, type OnnxAttentionOpset, type OnnxOpset, type OnnxRelease } from './releases.ts';

export interface OnnxOptions {
  /** The operator set that the model imports. */
  readonly opset: OnnxOpset;
  /** Whose reference implementation is meant where releases differ. Default the newest. */
  readonly release?: OnnxRelease;
}

/** The operators of one operator set, as one release computes them. */
export interface OnnxOperators {
  /** Operator Attention. @throws AttentionError `unsupported`, `invalid-argument`, `invalid-shape` */
  readonly attention: (inputs: OnnxAttentionInputs, attributes?: OnnxAttentionAttributes, wishes?: OnnxAttentionWishes) => OnnxAttentionConversion;
  /** Operator LinearAttention. @throws AttentionError `unsupported` before operator set 27, `invalid-argument`, `invalid-shape` */
  readonly linearAttention: (inputs: OnnxLinearAttentionInputs, attributes: OnnxLinearAttentionAttributes) => OnnxLinearAttentionConversion;
}

const names: Names<OnnxOptions> = { opset: true, release: true };
const opsets: readonly OnnxOpset[] = [23, 24, 25, 26, 27];

/**
 * Calls of ONNX's standard operators in heed's terms, by their own names of inputs and attributes.
 *
 *     const { request, inputs, outputs } = fromOnnx({ opset: 24 }).attention({ Q, K, V }, { is_causal: 1 });
 *
 * @throws AttentionError `invalid-argument` for an operator set or a release that has no Attention
 */
export function fromOnnx(options: OnnxOptions): OnnxOperators {
  checkNames('the options of fromOnnx', options, names);
  const { opset, release = '1.23' } = options;
  if (!opsets.includes(opset) || !onnxReleases.includes(release)) {
    throw new AttentionError('invalid-argument', `fromOnnx got opset ${opset}, release ${release}.`, `Expected one of ${opsets.join(', ')}, and one of ${onnxReleases.join(', ')}.`);
  }
  const operatorSet: OnnxAttentionOpset = opset < 25 ? (opset as OnnxAttentionOpset) : isSince(release, firstRelease[25]) ? 25 : 24;
  if (!isSince(release, firstRelease[operatorSet])) {
    throw new AttentionError('invalid-argument', `Release ${release} has no operator set ${opset}.`, `Expected release ${firstRelease[operatorSet]} or later.`);
  }
  const setting = { opset: operatorSet, release, rules: attentionRules[release] };
  return {
    attention: (inputs, attributes = {}, wishes = {}) => fromOnnxAttention(setting, inputs, attributes, wishes),
    linearAttention: (inputs, attributes) => {
      if (opset < 27 || !isSince(release, '1.22')) {
        throw new AttentionError('unsupported', `LinearAttention is no operator of set ${opset} in release ${release}.`, 'Expected opset 27 and release 1.22 or later.');
      }
      return fromOnnxLinearAttention(inputs, attributes);
    },
  };
}
