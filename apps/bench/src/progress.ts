import type { Writable } from 'node:stream';

/** Where a run says what it does. */
export interface Progress {
  /** What is going on now, and the share of the whole that is done, 0 to 1. */
  step(message: string, done: number): void;
  /** A line that stays. */
  line(message: string): void;
  /** Removes what must not stay. */
  finish(): void;
}

const barWidth = 24;

/** On a terminal one line that is rewritten, elsewhere one plain line for each step. */
export function createProgress(stream: Writable & { readonly isTTY?: boolean; readonly columns?: number }): Progress {
  return stream.isTTY === true ? terminalProgress(stream) : plainProgress(stream);
}

function terminalProgress(stream: Writable & { readonly columns?: number }): Progress {
  const clear = '\r\u001b[2K';
  return {
    step(message, done) {
      const filled = Math.round(Math.min(1, Math.max(0, done)) * barWidth);
      const text = `${'█'.repeat(filled)}${'░'.repeat(barWidth - filled)} ${message}`;
      stream.write(clear + text.slice(0, (stream.columns ?? 80) - 1));
    },
    line: (message) => void stream.write(`${clear}${message}\n`),
    finish: () => void stream.write(clear),
  };
}

function plainProgress(stream: Writable): Progress {
  return {
    step: (message, done) => void stream.write(`[${String(Math.round(done * 100)).padStart(3)}%] ${message}\n`),
    line: (message) => void stream.write(`${message}\n`),
    finish: () => undefined,
  };
}
