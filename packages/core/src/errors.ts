/**
 * Every error code, in the order in which docs/errors.md explains them. A code is stable; a message is not.
 */
export const errorCodes = [
  'invalid-argument',
  'invalid-shape',
  'invalid-tensor',
  'invalid-dtype',
  'invalid-layout',
  'ambiguous-offset',
  'invalid-positions',
  'invalid-lengths',
  'missing-table',
  'unknown-table',
  'invalid-table',
  'table-out-of-range',
  'unknown-uniform',
  'invalid-uniform',
  'invalid-expression',
  'invalid-variant',
  'invalid-blocks',
  'invalid-edges',
  'duplicate-edge',
  'invalid-state',
  'invalid-pages',
  'cache-full',
  'invalid-file',
  'merge-refused',
  'unsupported',
  'contract-version',
  'foreign-tensor',
  'disposed',
  'aborted',
  'out-of-memory',
  'byte-budget',
  'worker-failed',
  'device-lost',
  'internal',
] as const;

/** One of {@link errorCodes}. */
export type ErrorCode = (typeof errorCodes)[number];

const brand: unique symbol = Symbol.for('@heed/core/AttentionError') as never;

/**
 * The only error that heed throws on purpose.
 *
 * `message` says what was got and what was expected, `hint` what to do. Test with {@link isAttentionError}, which also knows errors made by another copy of this package.
 */
export class AttentionError extends Error {
  readonly code: ErrorCode;
  readonly hint: string;

  constructor(code: ErrorCode, message: string, hint: string, options?: { readonly cause?: unknown }) {
    super(hint === '' ? message : `${message} ${hint}`, options);
    this.name = 'AttentionError';
    this.code = code;
    this.hint = hint;
    Object.defineProperty(this, brand, { value: true });
  }
}

/** True for an {@link AttentionError}, also one made by another copy of `@heed/core`; with `code`, only for that code. */
export function isAttentionError(error: unknown, code?: ErrorCode): error is AttentionError {
  if (typeof error !== 'object' || error === null || Reflect.get(error, brand) !== true) return false;
  return code === undefined || Reflect.get(error, 'code') === code;
}
