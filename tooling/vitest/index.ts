import { defaultClientConditions, defaultServerConditions } from 'vite';
import { defineConfig, type ViteUserConfig } from 'vitest/config';

/** Packages of the workspace resolve to their source under this condition, so that tests need no build. */
const source = '@heed/source';

/** Where a test run leaves its counts, which the repository's `test` command adds up. */
const results = '.results/unit.json';

/** Unit tests in Node: every `*.test.ts` under `test/` of the package. */
export function unit(): ViteUserConfig {
  return defineConfig({
    resolve: { conditions: [source, ...defaultClientConditions] },
    ssr: { resolve: { conditions: [source, ...defaultServerConditions] } },
    test: {
      include: ['test/**/*.test.ts'],
      execArgv: [`--conditions=${source}`],
      reporters: process.env.HEED_RESULTS === '1' ? ['dot', ['json', { outputFile: results }]] : ['default'],
      restoreMocks: true,
    },
  });
}
