import { float32 } from '../float32.ts';
import { isPlainCausal, needsScoreTable, scoreTable, scoreTableBytes, seesEverything } from '../mask-table.ts';
import { largestTable, type Operator } from './operator.ts';

/**
 * Attention of the ONNX standard, opset 23: [batch, heads, length, dim], grouped heads, softcap, and a table that is added to the scores.
 * Its own causal mask starts at the first key, so other masks are given as that table.
 */
export const attention: Operator = {
  way: 'Attention',
  operator: 'Attention',
  domain: '',
  inPlace: false,

  refuses(workload) {
    if (workload.layer.sink) return 'has no sink';
    if (needsScoreTable(workload) && scoreTableBytes(workload) > largestTable) return `its mask would be a table of ${scoreTableBytes(workload)} bytes`;
    return null;
  },

  call(workload, inputs) {
    const { layer, batch, queryLength, keyLength } = workload;
    const { heads, keyHeads, queryDim, valueDim, softcap } = layer;
    const table = needsScoreTable(workload) ? scoreTable(workload, inputs) : null;
    const causal = table === null && isPlainCausal(workload) && !seesEverything(workload);
    return {
      inputs: [
        { name: 'query', type: 'float32', elements: float32(inputs.query), shape: [batch, heads, queryLength, queryDim] },
        { name: 'key', type: 'float32', elements: float32(inputs.key), shape: [batch, keyHeads, keyLength, queryDim] },
        { name: 'value', type: 'float32', elements: float32(inputs.value), shape: [batch, keyHeads, keyLength, valueDim] },
        ...(table === null ? [] : [{ name: 'table', type: 'float32', elements: table.table, shape: [1, table.heads, queryLength, keyLength] } as const]),
      ],
      outputs: [{ name: 'output', shape: [batch, heads, queryLength, valueDim] }],
      attributes: { scale: { float: layer.scale }, is_causal: { int: causal ? 1 : 0 }, ...(softcap === null ? {} : { softcap: { float: softcap } }) },
      read: (output) => output,
    };
  },
};
