import type { AttentionInputs, AttentionOutputs, AttentionRequest, DType, Tensor } from '@heed/core';

/**
 * Another system's call in heed's terms: prepare `request`, run `inputs`, and hand what comes back to `outputs`.
 *
 *     const { request, inputs, outputs } = fromTorch({ query, key, value, is_causal: true });
 *     const kernel = await backend.prepare(request);
 *     const result = outputs(await kernel.run(inputs));
 */
export interface Conversion<Result, Request = AttentionRequest, Inputs = AttentionInputs, Outputs = AttentionOutputs> {
  readonly request: Request;
  readonly inputs: Inputs;
  /** heed's outputs with that system's axes and names. */
  readonly outputs: (outputs: Outputs) => Result;
  /** What that system would return otherwise than these outputs, in sentences; empty where they are the same. */
  readonly notes: readonly string[];
}

/** Storage types of a request that reads these tensors; outputs are stored as queries are. */
export function dtypesOf(query: Tensor, key: Tensor, value: Tensor): { readonly query: DType; readonly key: DType; readonly value: DType } {
  return { query: query.dtype, key: key.dtype, value: value.dtype };
}

/** Widths of the rows of a call's tensors. */
export function dimsOf(query: Tensor, key: Tensor, value: Tensor): Pick<AttentionRequest, 'queryDim' | 'keyDim' | 'valueDim'> {
  const width = ({ shape }: Tensor): number => shape.at(-1) ?? 0;
  return { queryDim: width(query), keyDim: width(key), valueDim: width(value) };
}
