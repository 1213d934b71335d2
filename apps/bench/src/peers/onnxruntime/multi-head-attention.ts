import { float32 } from '../float32.ts';
import { swapHeadsAndTokens } from '../heads-last.ts';
import { isPlainCausal, needsScoreTable, scoreTable, scoreTableBytes, seesEverything } from '../mask-table.ts';
import { largestTable, type Operator } from './operator.ts';

// Hidden scores are filled with −10000 unless told otherwise, which lets some of a hidden value through.
const lowestFloat = -3.4028234663852886e38;

/** com.microsoft MultiHeadAttention: query [batch, length, heads · dim], key and value [batch, heads, length, dim]. */
export const multiHeadAttention: Operator = {
  way: 'MultiHeadAttention',
  operator: 'MultiHeadAttention',
  domain: 'com.microsoft',
  inPlace: false,

  refuses(workload) {
    const { heads, keyHeads, softcap, sink } = workload.layer;
    if (heads !== keyHeads) return 'has no grouped heads';
    if (softcap !== null) return 'has no softcap';
    if (sink) return 'has no sink';
    if (needsScoreTable(workload) && scoreTableBytes(workload) > largestTable) return `its mask would be a table of ${scoreTableBytes(workload)} bytes`;
    return null;
  },

  call(workload, inputs) {
    const { layer, batch, queryLength, keyLength } = workload;
    const { heads, queryDim, valueDim } = layer;
    const table = needsScoreTable(workload) ? scoreTable(workload, inputs) : null;
    const causal = table === null && isPlainCausal(workload) && !seesEverything(workload);
    return {
      inputs: [
        { name: 'query', type: 'float32', elements: swapHeadsAndTokens(float32(inputs.query), [batch, heads, queryLength, queryDim]), shape: [batch, queryLength, heads * queryDim] },
        { name: 'key', type: 'float32', elements: float32(inputs.key), shape: [batch, heads, keyLength, queryDim] },
        { name: 'value', type: 'float32', elements: float32(inputs.value), shape: [batch, heads, keyLength, valueDim] },
        // Two optional ones that are not used lie between: a bias and a padding mask.
        ...(table === null ? [] : [null, null, { name: 'table', type: 'float32', elements: table.table, shape: [1, table.heads, queryLength, keyLength] } as const]),
      ],
      outputs: [{ name: 'output', shape: [batch, queryLength, heads * valueDim] }],
      attributes: { num_heads: { int: heads }, scale: { float: layer.scale }, unidirectional: { int: causal ? 1 : 0 }, mask_filter_value: { float: lowestFloat } },
      read: (output) => swapHeadsAndTokens(output, [batch, queryLength, heads, valueDim]),
    };
  },
};
