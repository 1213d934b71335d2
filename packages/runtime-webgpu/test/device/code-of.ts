import { isAttentionError, type ErrorCode } from '@heed/core';

/** The code of what a call throws, or a promise rejects with; null where it does neither. */
export function codeOf(call: () => unknown): ErrorCode | 'foreign' | null {
  try {
    call();
    return null;
  } catch (error) {
    return isAttentionError(error) ? error.code : 'foreign';
  }
}

export async function codeOfPromise(promise: Promise<unknown>): Promise<ErrorCode | 'foreign' | null> {
  try {
    await promise;
    return null;
  } catch (error) {
    return isAttentionError(error) ? error.code : 'foreign';
  }
}
