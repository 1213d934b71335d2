import { expect } from 'vitest';
import type { AttentionInputs, AttentionRequest } from '../../src/backend.ts';
import type { ErrorCode } from '../../src/errors.ts';
import { isAttentionError } from '../../src/errors.ts';
import type { AttentionStages } from '../../src/variant.ts';
import { attention } from '../../src/variant.ts';
import { zeros } from '../../src/tensor.ts';

export interface Sizes {
  readonly batch?: number;
  readonly heads?: number;
  readonly keyHeads?: number;
  readonly queryLength?: number;
  readonly keyLength?: number;
}

/** A request for rows of 4 and values of 3. */
export function requestOf(stages: AttentionStages = {}, rest: Partial<AttentionRequest> = {}): AttentionRequest {
  return { variant: attention(stages), queryDim: 4, keyDim: 4, valueDim: 3, ...rest };
}

/** Zeros that fit {@link requestOf}. */
export function inputsOf({ batch = 2, heads = 4, keyHeads = 2, queryLength = 5, keyLength = queryLength }: Sizes = {}, rest: Partial<AttentionInputs> = {}): AttentionInputs {
  return {
    query: zeros([batch, heads, queryLength, 4]),
    key: zeros([batch, keyHeads, keyLength, 4]),
    value: zeros([batch, keyHeads, keyLength, 3]),
    ...rest,
  };
}

/** Expects an AttentionError of this code whose message names every given part, and a hint. */
export function expectRefusal(work: () => unknown, code: ErrorCode, ...parts: readonly string[]): void {
  let caught: unknown;
  try {
    work();
  } catch (error) {
    caught = error;
  }
  expect(caught, 'it was accepted').toBeDefined();
  expect(isAttentionError(caught), String(caught)).toBe(true);
  if (!isAttentionError(caught)) return;
  expect(caught.code, caught.message).toBe(code);
  expect(caught.hint).not.toBe('');
  for (const part of parts) expect(caught.message).toContain(part);
}
