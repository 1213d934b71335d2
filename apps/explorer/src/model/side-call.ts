import { createReferenceBackend } from '@heed/core/reference';
import { Caller, type Result } from './call.ts';
import type { HeadTables } from './heads.ts';
import type { Described } from './variant.ts';

/** Calls beside the one that the page is about, in float64 on the reference: small ones, whose numbers must not depend on what is picked. */
export class SideCalls {
  readonly #backend = createReferenceBackend();
  readonly #caller = new Caller();

  async run(described: Described, heads: Omit<HeadTables, 'names'>, uniforms: Readonly<Record<string, number>> = {}): Promise<Result> {
    return this.#caller.run(this.#backend, described, heads, uniforms);
  }
}
