/**
 * The lanes of the test command. A lane is a script of that name in any number of packages; `turbo.json` says what it
 * depends on and whether its result may be kept. To judge another backend, put it in `backends/` beside this folder and give
 * its package the script `"conformance": "node ../../tooling/checks/src/suite.ts conformance <backend>"`.
 *
 * A lane counts as one, by its exit status, unless it leaves counts: then `.results/<lane>.json` of the package holds
 * `{ passed, failed }` (other fields are its own affair) when the script ends. A lane that should leave counts and does
 * not has failed.
 */
export interface Lane {
  readonly script: string;
  readonly leavesCounts: boolean;
  /** Runs after the others, one at a time: its tests measure time. */
  readonly alone?: boolean;
}

export const lanes: readonly Lane[] = [
  // Every package.
  { script: 'types', leavesCounts: false },
  { script: 'lint', leavesCounts: false },
  { script: 'unit', leavesCounts: true },
  { script: 'unit-alone', leavesCounts: true, alone: true },
  // Published packages: built, packed, and what is in the tarball judged.
  { script: 'build', leavesCounts: false },
  { script: 'tarball', leavesCounts: true },
  // The suite against each backend, and wrong backends against the suite.
  { script: 'conformance', leavesCounts: true },
  { script: 'conformance-wide', leavesCounts: true },
  { script: 'conformance-single', leavesCounts: true },
  { script: 'conformance-graph', leavesCounts: true },
  { script: 'conformance-deno', leavesCounts: true },
  { script: 'conformance-bun', leavesCounts: true },
  { script: 'conformance-webgpu', leavesCounts: true },
  { script: 'conformance-graph-webgpu', leavesCounts: true },
  // Unit tests that need a GPU, or SwiftShader.
  { script: 'device', leavesCounts: true },
  { script: 'browser', leavesCounts: true },
  { script: 'mutants', leavesCounts: true },
  { script: 'shutdown', leavesCounts: true, alone: true },
  // The repository as a whole.
  { script: 'import-arrows', leavesCounts: true },
  { script: 'packages', leavesCounts: true },
  { script: 'use', leavesCounts: true },
  { script: 'unused', leavesCounts: false },
  { script: 'workflows', leavesCounts: true },
  { script: 'documents', leavesCounts: true },
];
