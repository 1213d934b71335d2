/**
 * How much memory one call takes beyond its inputs and outputs, measured in a process of its own, where nothing else has grown the heap before.
 */
import { execFile } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { Prepared } from './competitor.ts';

/** What a probe process is told: the command line of the run, and which call of it on whom. */
export interface MemoryProbe {
  readonly argv: readonly string[];
  /** Id of the workload. */
  readonly workload: string;
  /** Name of the competitor. */
  readonly competitor: string;
  /** Which of its ways; null where it has one. */
  readonly way: string | null;
}

const probeProgram = fileURLToPath(new URL('memory-probe.ts', import.meta.url));
const longestProbe = 120_000;

// Makes glibc give freed arrays back at once; otherwise the call would reuse what making its inputs left behind, unseen.
const returnFreedMemory = { MALLOC_MMAP_THRESHOLD_: '65536', MALLOC_TRIM_THRESHOLD_: '65536' };

/** Starts a process that makes the call once and reads its peak; null when that fails or nothing can be read here. */
export async function probePeakBytes(probe: MemoryProbe): Promise<number | null> {
  try {
    const { stdout } = await promisify(execFile)(process.execPath, [...process.execArgv, probeProgram, JSON.stringify(probe)], { timeout: longestProbe, env: { ...process.env, ...returnFreedMemory } });
    const bytes: unknown = JSON.parse(stdout);
    return typeof bytes === 'number' && bytes >= 0 ? bytes : null;
  } catch {
    return null;
  }
}

/**
 * Peak of one call in this process: the growth of its resident memory, or what the runtime itself counted, whichever is more.
 *
 * Linux resets the high-water mark before the call. Elsewhere growth shows only where it passes everything before, so the answer is a lower
 * bound there.
 *
 * @param outputBytes what of the growth is the result itself
 */
export async function measurePeakBytes(prepared: Prepared, outputBytes: number): Promise<number> {
  await settle();
  const runtimeBefore = prepared.memory?.().bytes ?? 0;
  const highWater = resetHighWaterMark();
  const before = highWater();
  await prepared.run();
  const grown = highWater() - before;
  const counted = (prepared.memory?.().peakBytes ?? 0) - runtimeBefore;
  return Math.max(0, Math.max(grown, counted) - outputBytes);
}

/** Collects garbage until nothing more is given back; arrays go back to the system a little after they are collected. */
async function settle(): Promise<void> {
  setFlagsFromString('--expose-gc');
  const collectGarbage = runInNewContext('gc') as () => void;
  let resident = Infinity;
  for (let round = 0; round < longestSettling; round++) {
    collectGarbage();
    await setTimeout(10);
    const now = process.memoryUsage.rss();
    if (now > 0.999 * resident) return;
    resident = now;
  }
}

const longestSettling = 50;

/** Sets the high-water mark of resident memory to what is held now, where that is possible, and returns how to read it, in bytes. */
function resetHighWaterMark(): () => number {
  try {
    writeFileSync('/proc/self/clear_refs', '5');
    return () => Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? Number.NaN) * 1024;
  } catch {
    return () => process.resourceUsage().maxRSS * 1024;
  }
}
