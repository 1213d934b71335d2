import { isAttentionError } from '../src/errors.ts';

/** The code of the AttentionError that a function throws; null when it throws nothing. Anything else is thrown on. */
export function codeOf(run: () => unknown): string | null {
  try {
    run();
  } catch (error) {
    if (isAttentionError(error)) return error.code;
    throw error;
  }
  return null;
}
