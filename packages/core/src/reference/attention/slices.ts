import type { StopSignal } from '../../backend.ts';
import { AttentionError } from '../../errors.ts';

declare const setTimeout: (callback: () => void, milliseconds: number) => unknown;

/** Work in steps: yields after each row, returns its result. */
export type Steps<T> = Generator<undefined, T>;

/** All steps at once. */
export function finishNow<T>(steps: Steps<T>): T {
  let step = steps.next();
  while (step.done !== true) step = steps.next();
  return step.value;
}

/**
 * All steps, in slices of about 8 ms between which other events of this thread take their turn.
 * @throws AttentionError `aborted`
 */
export async function finishInSlices<T>(steps: Steps<T>, signal: StopSignal | undefined): Promise<T> {
  stopIfAborted(signal);
  let sliceEnd = Date.now() + 8;
  let step = steps.next();
  while (step.done !== true) {
    if (Date.now() >= sliceEnd) {
      await new Promise<void>((resolve) => setTimeout(resolve, 0));
      stopIfAborted(signal);
      sliceEnd = Date.now() + 8;
    }
    step = steps.next();
  }
  return step.value;
}

function stopIfAborted(signal: StopSignal | undefined): void {
  if (signal?.aborted === true) throw new AttentionError('aborted', 'The call was aborted by its signal.', 'The kernel can be called again.', { cause: signal.reason });
}
