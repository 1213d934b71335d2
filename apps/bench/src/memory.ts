import { readFileSync, writeFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { Prepared } from './competitor.ts';

/**
 * Bytes that a call takes beyond its inputs and outputs, at the most: the growth of the process over one call, or what the runtime itself
 * counted, whichever is more.
 *
 * The process is read through Linux's high-water mark, which can be reset before the call. Elsewhere the growth can only be seen when it
 * passes everything before it, so there the runtime's own count is the answer, and null where it has none.
 *
 * @param outputBytes what of the growth is the result itself
 */
export async function measurePeakBytes(prepared: Prepared, outputBytes: number): Promise<number | null> {
  collectGarbage();
  const runtimeBefore = prepared.memory?.().bytes ?? 0;
  const processBefore = resetHighWaterMark();
  const pending = prepared.run();
  if (pending !== undefined) await pending;
  const grown = processBefore === null ? null : readStatus('VmHWM') - processBefore;
  const counted = prepared.memory === undefined ? null : prepared.memory().peakBytes - runtimeBefore;
  if (grown === null && counted === null) return null;
  return Math.max(0, Math.max(grown ?? 0, counted ?? 0) - outputBytes);
}

function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  const collect: unknown = runInNewContext('gc');
  if (typeof collect === 'function') collect();
}

/** Sets the high-water mark to what the process holds now and returns that, in bytes; null where there is no such thing. */
function resetHighWaterMark(): number | null {
  try {
    writeFileSync('/proc/self/clear_refs', '5');
    return readStatus('VmRSS');
  } catch {
    return null;
  }
}

function readStatus(field: string): number {
  const match = new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(readFileSync('/proc/self/status', 'utf8'));
  return Number(match?.[1] ?? Number.NaN) * 1024;
}
