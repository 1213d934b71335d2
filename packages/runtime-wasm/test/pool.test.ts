import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { isAttentionError } from '@heed/core';
import { afterEach, describe, expect, test } from 'vitest';
import { instructions } from '../src/emit/instruction.ts';
import { ModuleBuilder } from '../src/emit/module.ts';
import { LinearMemory } from '../src/memory.ts';
import { WorkerPool } from '../src/threads/pool.ts';
import { spawnWorker, type SpawnedWorker } from '../src/threads/spawn.ts';
import type { KernelFunction } from '../src/threads/job.ts';

const { i32 } = instructions;

/**
 * Kernels over arguments [out, value]: `count` adds value to out[task] and runs `spin` rounds; `copyNext` writes out[task + 64] = 2 · out[task];
 * `trap` traps on task 3; `note` stores its scratch address.
 */
function kernels(shared: boolean): WebAssembly.Module {
  const builder = new ModuleBuilder('kernels');
  builder.importMemory('env', 'memory', { shared });
  const parameters = { task: 'i32', words: 'i32', scratch: 'i32' } as const;
  builder.function('count', { parameters, export: true }, (f, { task, words }) => {
    const cell = f.let('cell', i32.add(i32.load(words), i32.shl(task, 2)));
    const round = f.local('round', 'i32');
    f.for(round, { to: i32.load(words, 8) }, () => {
      f.do(i32.store(cell, i32.load(cell)));
    });
    f.do(i32.store(cell, i32.add(i32.load(cell), i32.load(words, 4))));
  });
  builder.function('copyNext', { parameters, export: true }, (f, { task, words }) => {
    const cell = f.let('cell', i32.add(i32.load(words), i32.shl(task, 2)));
    f.do(i32.store(cell, i32.mul(2, i32.load(cell)), 256));
  });
  builder.function('trap', { parameters, export: true }, (f, { task }) => {
    f.if(i32.eq(task, 3), () => {
      f.op('unreachable');
    });
  });
  builder.function('note', { parameters, export: true }, (f, { task, words, scratch }) => {
    f.do(i32.store(i32.add(i32.load(words), i32.shl(task, 2)), scratch));
  });
  return new WebAssembly.Module(builder.bytes());
}

const names = ['count', 'copyNext', 'trap', 'note'] as const;

interface Fixture {
  readonly pool: WorkerPool;
  readonly memory: LinearMemory;
  readonly spawned: SpawnedWorker[];
  readonly load: () => Readonly<Record<(typeof names)[number], KernelFunction>>;
}

const pools: WorkerPool[] = [];
afterEach(() => {
  for (const pool of pools.splice(0)) pool.dispose();
});

function fixture(threads: number, shared = threads > 1): Fixture {
  const memory = new LinearMemory({ shared });
  const spawned: SpawnedWorker[] = [];
  const pool = new WorkerPool({
    memory,
    threads,
    mayBlock: true,
    spawn: (events) => {
      const worker = spawnWorker(events);
      spawned.push(worker);
      return worker;
    },
  });
  pools.push(pool);
  return { pool, memory, spawned, load: () => pool.load(kernels(shared), names) };
}

/** Milliseconds that this thread computed: unlike the clock, they do not count what other programs took. */
const busy = (): number => {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
};

/** A cell that is certain to be worked on by several threads when it is repeated over many tasks. */
const spin = 20_000;

describe('the worker pool', () => {
  test.each([1, 2, 4])('%i threads: every task runs once, phases one after another, jobs in order', async (threads) => {
    const { pool, memory, load } = fixture(threads);
    const { count, copyNext } = load();
    await pool.ready();
    expect(pool.running).toBe(threads);
    const out = memory.allocate(128 * 4);
    for (let round = 1; round <= 40; round += 1) {
      memory.i32(out, 128).fill(0);
      const first = pool.submit({
        phases: [
          { function: count, tasks: 64, arguments: [out, 5, spin / 10] },
          { function: copyNext, tasks: 64, arguments: [out] },
        ],
      });
      const second = pool.submit({ phases: [{ function: count, tasks: 128, arguments: [out, round, 0] }] }, { participate: round % 2 === 0 });
      await Promise.all([first.done, second.done]);
      expect([...memory.i32(out, 128)]).toEqual(Array.from({ length: 128 }, (_, task) => (task < 64 ? 5 : 10) + round));
    }
    memory.release(out);
    expect(memory.bytes).toBe(0);
  });

  test('a small job on an idle pool is over before submit returns', () => {
    const { pool, memory, load } = fixture(2);
    const { count } = load();
    const out = memory.allocate(64);
    const submission = pool.submit({ phases: [{ function: count, tasks: 2, arguments: [out, 9, 0] }], microseconds: 1 });
    expect(submission.settled).toBe(true);
    expect([...memory.i32(out, 2)]).toEqual([9, 9]);
  });

  test('more jobs than the ring has room for wait their turn', async () => {
    const { pool, memory, load } = fixture(2);
    const { count } = load();
    const out = memory.allocate(64);
    memory.i32(out, 16).fill(0);
    const all = Array.from({ length: 1000 }, () => pool.submit({ phases: Array.from({ length: 3 }, () => ({ function: count, tasks: 1, arguments: [out, 1, 0] })) }));
    await Promise.all(all.map(({ done }) => done));
    expect(memory.i32(out, 1)[0]).toBe(3000);
    expect(pool.idle).toBe(true);
  });

  test('threads have scratch memory of their own', async () => {
    const { pool, memory, load } = fixture(2);
    const { note, count } = load();
    await pool.ready();
    const out = memory.allocate(4096 * 4);
    const seen = new Set<number>();
    for (let round = 0; round < 50 && seen.size < 2; round += 1) {
      seen.clear();
      await pool.submit({
        phases: [
          { function: count, tasks: 64, arguments: [out, 0, spin] },
          { function: note, tasks: 4096, arguments: [out], scratchBytes: 100 },
        ],
      }).done;
      for (const address of memory.i32(out, 4096)) seen.add(address);
    }
    expect(seen.size).toBe(2);
    const [a = 0, b = 0] = [...seen].sort((x, y) => x - y);
    expect(b - a).toBe(128);
  });

  test.each([1, 2])('a trap is a typed error, ends its job and harms no other (%i threads)', async (threads) => {
    const { pool, memory, load } = fixture(threads);
    const { count, copyNext, trap } = load();
    await pool.ready();
    const out = memory.allocate(1024);
    memory.i32(out, 256).fill(1);
    const bad = pool.submit({
      phases: [
        { function: trap, tasks: 64, arguments: [] },
        { function: copyNext, tasks: 64, arguments: [out] },
      ],
    });
    const good = pool.submit({ phases: [{ function: count, tasks: 64, arguments: [out, 4, 0] }] });
    await expect(bad.done).rejects.toMatchObject({ code: 'worker-failed', message: expect.stringContaining('unreachable') as string });
    await good.done;
    expect([memory.i32(out, 1)[0], memory.i32(out + 256, 1)[0]]).toEqual([5, 1]);
    const small = pool.submit({ phases: [{ function: trap, tasks: 4, arguments: [] }], microseconds: 1 });
    expect(isAttentionError(small.error, 'worker-failed')).toBe(true);
  });

  test('an abort signal stops a long job within 20 ms, before and between jobs too', async () => {
    const { pool, memory, load } = fixture(2);
    const { count } = load();
    await pool.ready();
    const out = memory.allocate(4);
    const abort = new AbortController();
    // 100,000 tasks of about 0.1 ms: seconds of work.
    const long = pool.submit({ phases: [{ function: count, tasks: 100_000, arguments: [out, 0, 100_000] }], signal: abort.signal }, { participate: true });
    const waiting = pool.submit({ phases: [{ function: count, tasks: 1, arguments: [out, 0, 0] }], signal: abort.signal });
    let aborted = 0;
    setTimeout(() => {
      aborted = busy();
      abort.abort('enough');
    }, 30);
    await expect(long.done).rejects.toMatchObject({ code: 'aborted', cause: 'enough' });
    expect(busy() - aborted).toBeLessThan(20);
    await expect(waiting.done).rejects.toMatchObject({ code: 'aborted' });
    expect(pool.submit({ phases: [], signal: abort.signal }).error?.code).toBe('aborted');
    await pool.submit({ phases: [{ function: count, tasks: 4, arguments: [out, 1, 0] }] }).done;
  });

  test('the event loop has its turns while a long job runs', async () => {
    const { pool, memory, load } = fixture(2);
    const { count } = load();
    const out = memory.allocate(4);
    let longest = 0;
    let turns = 0;
    let last = busy();
    const timer = setInterval(() => {
      longest = Math.max(longest, busy() - last);
      last = busy();
      turns += 1;
    }, 1);
    await pool.submit({ phases: [{ function: count, tasks: 1500, arguments: [out, 0, 100_000] }] }, { participate: true }).done;
    clearInterval(timer);
    expect(turns).toBeGreaterThan(2);
    // A slice of 8 ms, and the task with which it ends.
    expect(longest).toBeLessThan(20);
  });

  test("a worker's death rejects what was pending, and the pool starts anew", async () => {
    const { pool, memory, spawned, load } = fixture(3);
    const { count } = load();
    await pool.ready();
    const out = memory.allocate(4);
    const long = pool.submit({ phases: [{ function: count, tasks: 100_000, arguments: [out, 0, 100_000] }] });
    setTimeout(() => {
      spawned[0]?.terminate();
    }, 5);
    await expect(long.done).rejects.toMatchObject({ code: 'worker-failed', message: expect.stringContaining('died') as string });
    await pool.ready();
    expect([pool.running, spawned.length]).toEqual([3, 4]);
    memory.i32(out, 1)[0] = 0;
    await pool.submit({ phases: [{ function: count, tasks: 1, arguments: [out, 7, spin] }] }).done;
    expect(memory.i32(out, 1)[0]).toBe(7);
  });

  test('a worker that does not start is done without, and the reason is kept', async () => {
    const memory = new LinearMemory({ shared: true });
    const pool = new WorkerPool({
      memory,
      threads: 2,
      mayBlock: true,
      spawn: ({ dead }) => {
        setTimeout(dead, 1, 'blocked by a policy');
        return { postMessage: () => undefined, terminate: () => undefined };
      },
    });
    pools.push(pool);
    const { count } = pool.load(kernels(true), names);
    await pool.ready();
    expect([pool.running, pool.startFailure]).toEqual([1, 'A worker did not start: blocked by a policy.']);
    const out = memory.allocate(4);
    memory.i32(out, 1)[0] = 0;
    await pool.submit({ phases: [{ function: count, tasks: 1, arguments: [out, 3, spin] }] }).done;
    expect(memory.i32(out, 1)[0]).toBe(3);
  });

  test('dispose ends pending jobs with a typed error, and later calls are refused', async () => {
    const { pool, memory, load } = fixture(2);
    const { count } = load();
    const out = memory.allocate(4);
    const long = pool.submit({ phases: [{ function: count, tasks: 100_000, arguments: [out, 0, 100_000] }] });
    const ended = expect(long.done).rejects.toMatchObject({ code: 'disposed' });
    pool.dispose();
    pool.dispose();
    await ended;
    expect(() => pool.submit({ phases: [] })).toThrow(expect.objectContaining({ code: 'disposed' }));
  });

  test('a thread that may not block finishes all the same', async () => {
    const memory = new LinearMemory({ shared: true });
    const pool = new WorkerPool({ memory, threads: 2, mayBlock: false });
    pools.push(pool);
    const { count } = pool.load(kernels(true), names);
    await pool.ready();
    const out = memory.allocate(256);
    memory.i32(out, 64).fill(0);
    await pool.submit({ phases: [{ function: count, tasks: 64, arguments: [out, 2, 200_000] }] }, { participate: true }).done;
    expect([...memory.i32(out, 64)]).toEqual(Array.from({ length: 64 }, () => 2));
  });
});

describe('a process', () => {
  const run = async (script: string): Promise<string> => {
    const { stdout } = await promisify(execFile)(process.execPath, [...process.execArgv, '--input-type=module', '--eval', script], { timeout: 10_000 });
    return stdout;
  };
  const source = (path: string): string => JSON.stringify(new URL(`../src/${path}`, import.meta.url).href);
  const preamble = `
    import { LinearMemory } from ${source('memory.ts')};
    import { WorkerPool } from ${source('threads/pool.ts')};
    import { ModuleBuilder } from ${source('emit/module.ts')};
    const memory = new LinearMemory({ shared: true });
    const pool = new WorkerPool({ memory, threads: 2, mayBlock: true });
    const builder = new ModuleBuilder('m');
    builder.importMemory('env', 'memory', { shared: true });
    builder.function('nothing', { parameters: { task: 'i32', words: 'i32', scratch: 'i32' }, export: true }, () => undefined);
    const { nothing } = pool.load(new WebAssembly.Module(builder.bytes()), ['nothing']);
  `;

  test('ends while idle workers sleep', async () => {
    expect(await run(`${preamble} await pool.ready(); await pool.submit({ phases: [{ function: nothing, tasks: 9, arguments: [] }] }).done; await new Promise((resolve) => setTimeout(resolve, 50)); console.log('end');`)).toBe('end\n');
  });

  test('does not end before a pending job', async () => {
    expect(await run(`${preamble} pool.submit({ phases: [{ function: nothing, tasks: 3000000, arguments: [] }] }).done.then(() => console.log('done'));`)).toBe('done\n');
  });
});
