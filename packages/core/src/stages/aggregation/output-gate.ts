import type { Formula } from '../../expression/scope.ts';
import { write } from '../../expression/scope.ts';

export interface OutputGateOptions {
  /** Name of the table [batch, head, queryLength, valueDim] of gates before the sigmoid; any axis may be 1, which repeats. Default 'gate'. */
  readonly table?: string;
}

/** output · σ(gate), for `aggregation.finishBy` (Qiu 2025; Qwen3-Next). */
export function outputGate(options: OutputGateOptions = {}): Formula {
  return write('finish', 'outputGate', ({ output, batch, head, queryIndex, channel, table }) =>
    output.mul(table(options.table ?? 'gate', ['batch', 'head', 'queryLength', 'valueDim']).at(batch, head, queryIndex, channel).sigmoid()));
}
