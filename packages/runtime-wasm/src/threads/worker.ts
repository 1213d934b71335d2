/**
 * The worker's side of the pool: a loop that takes part in phases and sleeps between them. It returns to the event loop only when
 * messages wait there, because a thread that sleeps in Atomics.wait receives none.
 */
import { builtinModule } from '../host.ts';
import { takePart, word, type KernelCall } from './control.ts';

export type WorkerMessage =
  | { readonly kind: 'start'; readonly memory: WebAssembly.Memory; readonly control: Int32Array; readonly thread: number }
  | { readonly kind: 'load'; readonly module: WebAssembly.Module; readonly functions: readonly (readonly [id: number, name: string])[] }
  | { readonly kind: 'unload'; readonly ids: readonly number[] }
  | { readonly kind: 'work'; readonly messages: number };

/** How long an idle worker looks for work before it sleeps: waking takes about as long. */
const spinMilliseconds = 0.05;

interface Port {
  postMessage(message: unknown): void;
  on?(event: 'message', listener: (message: WorkerMessage) => void): void;
  addEventListener?(event: 'message', listener: (event: { readonly data: WorkerMessage }) => void): void;
}

interface Setting {
  readonly memory: WebAssembly.Memory;
  readonly control: Int32Array;
  readonly thread: number;
}

function listen(port: Port): void {
  const functions = new Map<number, KernelCall>();
  let setting: Setting | undefined;
  const receive = (message: WorkerMessage): void => {
    switch (message.kind) {
      case 'start':
        setting = message;
        port.postMessage('ready');
        return;
      case 'load':
        if (setting === undefined) return;
        load(message, setting.memory, functions);
        return;
      case 'unload':
        for (const id of message.ids) functions.delete(id);
        return;
      case 'work':
        if (setting !== undefined) work(setting, functions, message.messages);
    }
  };
  if (port.on !== undefined) port.on('message', receive);
  else {
    port.addEventListener?.('message', ({ data }) => {
      receive(data);
    });
  }
}

function load(
  { module, functions: names }: Extract<WorkerMessage, { kind: 'load' }>,
  memory: WebAssembly.Memory,
  functions: Map<number, KernelCall>,
): void {
  const { exports } = new WebAssembly.Instance(module, { env: { memory } });
  for (const [id, name] of names) functions.set(id, exports[name] as KernelCall);
}

/** Takes part until messages wait. */
function work({ control, thread }: Setting, functions: ReadonlyMap<number, KernelCall>, messages: number): void {
  const looking = word.workers + 2 * thread;
  let idleSince = 0;
  for (;;) {
    const seen = Atomics.load(control, word.signal);
    if (Atomics.load(control, word.messages) !== messages) break;
    const position = Atomics.load(control, word.head);
    if (position !== Atomics.load(control, word.tail)) {
      // Say which slot is looked at before looking, and look only if it is still the head: then it cannot be reused meanwhile.
      Atomics.store(control, looking + 1, position);
      Atomics.store(control, looking, 1);
      if (Atomics.load(control, word.head) === position && Atomics.load(control, word.messages) === messages) {
        takePart(control, position, thread, functions, Infinity);
      }
      Atomics.store(control, looking, 0);
      if (Atomics.load(control, word.head) !== position) {
        idleSince = 0;
        continue;
      }
    }
    if (idleSince === 0) idleSince = performance.now();
    if (performance.now() - idleSince < spinMilliseconds) continue;
    Atomics.wait(control, word.signal, seen);
    idleSince = 0;
  }
  Atomics.store(control, looking, 0);
}

const threads = builtinModule('worker_threads') as { readonly parentPort?: Port | null } | undefined;
listen(threads?.parentPort ?? (globalThis));
