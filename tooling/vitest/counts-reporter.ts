import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Reporter, TestModule } from 'vitest/node';

/** Leaves `{ passed, failed }` in a file, for the repository's test command to add up. A module that does not load is one failure. */
export function countsReporter(file: string): Reporter {
  return {
    onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly unknown[]): void {
      const states = modules.flatMap((module) => [...module.children.allTests()].map((test) => test.result().state));
      const passed = states.filter((state) => state === 'passed').length;
      const broken = modules.filter((module) => module.errors().length > 0).length;
      const failed = states.filter((state) => state === 'failed').length + broken + unhandledErrors.length;
      mkdirSync(dirname(file), { recursive: true });
      writeFileSync(file, `${JSON.stringify({ passed, failed })}\n`);
    },
  };
}
