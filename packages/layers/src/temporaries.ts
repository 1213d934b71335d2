import type { Runtime, Tensor } from '@heed/core';

/** Tensors made on the way to a result. They are released together, also when something throws; a runtime waits for their last use. */
export class Temporaries {
  readonly runtime: Runtime;
  readonly #tensors: Tensor[] = [];

  constructor(runtime: Runtime) {
    this.runtime = runtime;
  }

  /** Remembers a tensor that nobody else releases. */
  keep<T extends Tensor>(tensor: T): T {
    this.#tensors.push(tensor);
    return tensor;
  }

  release(): void {
    for (const tensor of this.#tensors.splice(0)) this.runtime.release(tensor);
  }
}

/** Runs a piece of work and releases what it kept. */
export async function withTemporaries<T>(runtime: Runtime, work: (temporaries: Temporaries) => Promise<T>): Promise<T> {
  const temporaries = new Temporaries(runtime);
  try {
    return await work(temporaries);
  } finally {
    temporaries.release();
  }
}

/** The same for work that is enqueued at once. */
export function withTemporariesNow<T>(runtime: Runtime, work: (temporaries: Temporaries) => T): T {
  const temporaries = new Temporaries(runtime);
  try {
    return work(temporaries);
  } finally {
    temporaries.release();
  }
}
