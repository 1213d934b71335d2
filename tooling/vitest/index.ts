import { defaultClientConditions, defaultServerConditions } from 'vite';
import { defineConfig, type ViteUserConfig } from 'vitest/config';
import { countsReporter } from './counts-reporter.ts';

/** Packages of the workspace resolve to their source under this condition, so that tests need no build. */
const source = '@heed/source';

/** Unit tests in Node: every `*.test.ts` under `test/` of the package but those under `test/device/`. Counts go to `.results`, by the name of the script. */
export function unit(): ViteUserConfig {
  return inNode({ include: ['test/**/*.test.ts'], exclude: ['**/node_modules/**', 'test/device/**'] });
}

/** Tests that need a GPU, or a software one: those under `test/device/`. */
export function device(): ViteUserConfig {
  return inNode({ include: ['test/device/**/*.test.ts'] });
}

function inNode(files: { readonly include: string[]; readonly exclude?: string[] }): ViteUserConfig {
  return defineConfig({
    resolve: { conditions: [source, ...defaultClientConditions] },
    ssr: { resolve: { conditions: [source, ...defaultServerConditions] } },
    test: {
      ...files,
      execArgv: [`--conditions=${source}`],
      reporters: ['default', countsReporter(`.results/${process.env.npm_lifecycle_event ?? 'unit'}.json`)],
      restoreMocks: true,
      // Lanes share the machine's cores.
      testTimeout: 30_000,
    },
  });
}
