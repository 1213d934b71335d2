import { arch, availableParallelism, cpus, platform, release, totalmem } from 'node:os';

/** Where a report was made. Names no user, host or path. */
export interface Machine {
  readonly processor: string;
  readonly threads: number;
  readonly memoryBytes: number;
  readonly platform: string;
  readonly runtime: string;
  readonly engine: string;
}

/** Describes the machine that runs this process. */
export function describeMachine(): Machine {
  return {
    processor: (cpus()[0]?.model ?? 'unknown processor').trim(),
    threads: availableParallelism(),
    memoryBytes: totalmem(),
    platform: `${platform()} ${release()} ${arch()}`,
    runtime: `Node ${process.versions.node}`,
    engine: `V8 ${process.versions.v8}`,
  };
}
