/** The emitter of a kernel made a mistake: types that do not fit, a label that is not open, a foreign local. */
export class EmitError extends Error {
  override readonly name: string = 'EmitError';
}
