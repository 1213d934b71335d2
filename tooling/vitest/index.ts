import { defaultClientConditions, defaultServerConditions } from 'vite';
import { defineConfig, type ViteUserConfig } from 'vitest/config';
import { countsReporter } from './counts-reporter.ts';

/** Packages of the workspace resolve to their source under this condition, so that tests need no build. */
const source = '@heed/source';

/** Unit tests in Node: every `*.test.ts` under `test/` of the package. Counts go to `.results`, by the name of the script. */
export function unit(): ViteUserConfig {
  return defineConfig({
    resolve: { conditions: [source, ...defaultClientConditions] },
    ssr: { resolve: { conditions: [source, ...defaultServerConditions] } },
    test: {
      include: ['test/**/*.test.ts'],
      execArgv: [`--conditions=${source}`],
      reporters: ['default', countsReporter(`.results/${process.env.npm_lifecycle_event ?? 'unit'}.json`)],
      restoreMocks: true,
      // Lanes share the machine's cores.
      testTimeout: 30_000,
    },
  });
}
