/** Starts a worker on whatever this platform calls a worker. */
import { builtinModule } from '../host.ts';
import type { WorkerMessage } from './worker.ts';

export interface SpawnedWorker {
  postMessage(message: WorkerMessage): void;
  /** May return a promise of the moment when it has ended. */
  terminate(): unknown;
  /** Keeps the process alive until the worker is ready; idle workers do not. Absent where that is no question. */
  hold?(): void;
}

export interface WorkerEvents {
  /** The worker has received its memory and joins from now on. */
  readonly ready: () => void;
  /** It ended, was ended, or never started. */
  readonly dead: (reason: string) => void;
}

export type Spawn = (events: WorkerEvents) => SpawnedWorker;

interface NodeWorker {
  on(event: 'message' | 'error' | 'exit' | 'messageerror', listener: (detail: unknown) => void): void;
  postMessage(message: unknown): void;
  terminate(): unknown;
  ref(): void;
  unref(): void;
}

interface WorkerThreads {
  readonly Worker: new (url: URL, options: Readonly<Record<string, unknown>>) => NodeWorker;
}

/** `worker_threads` in Node, Deno and Bun, since those can be left running without keeping the process alive; else a Web Worker. */
export const spawnWorker: Spawn = (events) => {
  const threads = builtinModule('worker_threads') as WorkerThreads | undefined;
  return threads?.Worker === undefined ? spawnWebWorker(events) : spawnThread(threads, events);
};

function spawnThread({ Worker }: WorkerThreads, { ready, dead }: WorkerEvents): SpawnedWorker {
  const worker = new Worker(new URL('./worker.ts', import.meta.url), { name: 'heed' });
  worker.on('message', () => {
    // Starting and listening make the worker count again.
    worker.unref();
    ready();
  });
  worker.on('error', (error) => {
    dead(String(error));
  });
  worker.on('exit', (code) => {
    dead(`the worker exited with code ${String(code)}`);
  });
  worker.unref();
  return {
    postMessage: (message) => {
      worker.postMessage(message);
    },
    terminate: () => worker.terminate(),
    hold: () => {
      worker.ref();
    },
  };
}

function spawnWebWorker({ ready, dead }: WorkerEvents): SpawnedWorker {
  // Bundlers look for exactly this expression.
  const worker = new Worker(new URL('./worker.ts', import.meta.url), { type: 'module', name: 'heed' });
  worker.onmessage = ready;
  worker.onerror = (event) => {
    // Without a message where the file could not be loaded.
    const { message = '' } = event as Partial<ErrorEvent>;
    dead(message === '' ? 'its file could not be loaded; it has to lie beside the program, as @heed/runtime-wasm/worker' : message);
  };
  return worker;
}
