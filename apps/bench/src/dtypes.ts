/** Storage types of query, key, value and output that the bench can ask for. */
export const benchDtypes = ['f32', 'f16', 'bf16'] as const;

/** One of {@link benchDtypes}. */
export type BenchDtype = (typeof benchDtypes)[number];
