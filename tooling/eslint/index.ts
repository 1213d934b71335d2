import eslint from '@eslint/js';
import type { Linter } from 'eslint';
import { defineConfig } from 'eslint/config';
import { configs } from 'typescript-eslint';

/** What every file obeys. A rule that is weaker than the strict set says why. */
const everywhere: Linter.RulesRecord = {
  eqeqeq: 'error',
  'no-eval': 'error',
  'no-new-func': 'error',
  'no-param-reassign': 'error',
  'object-shorthand': 'error',
  'max-lines': ['warn', { max: 350, skipBlankLines: true, skipComments: true }],
  '@typescript-eslint/consistent-type-imports': ['error', { fixStyle: 'inline-type-imports' }],
  '@typescript-eslint/consistent-type-exports': 'error',
  '@typescript-eslint/no-import-type-side-effects': 'error',
  '@typescript-eslint/prefer-readonly': 'error',
  '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
  '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
  '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_', ignoreRestSiblings: true }],
  // Shapes and sizes go into messages all the time.
  '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
  // It would rewrite `x as number` into the `x!` that no-non-null-assertion forbids.
  '@typescript-eslint/non-nullable-type-assertion-style': 'off',
  // Index loops read several arrays at once.
  '@typescript-eslint/prefer-for-of': 'off',
  // A contract's promise must reject, never throw, so its method is async even where nothing is awaited.
  '@typescript-eslint/require-await': 'off',
  // isolatedDeclarations asks for the type of an exported function's default parameter.
  '@typescript-eslint/no-inferrable-types': 'off',
  // Tables, uniforms and gradients are records by name; brackets tell such a name from a field.
  '@typescript-eslint/dot-notation': 'off',
  // Records are interfaces, unions are types; which one a name is may change.
  '@typescript-eslint/consistent-type-definitions': 'off',
};

/** What published source obeys besides. */
const published: Linter.RulesRecord = {
  'no-console': 'error',
  'no-restricted-syntax': [
    'error',
    { selector: 'ExportDefaultDeclaration', message: 'Export by name.' },
    { selector: 'ExportSpecifier[exported.name="default"]', message: 'Export by name.' },
    { selector: 'Program > VariableDeclaration[kind="let"]', message: 'No mutable state at module level.' },
    { selector: 'Program > ExportNamedDeclaration > VariableDeclaration[kind="let"]', message: 'No mutable state at module level.' },
  ],
};

/** In tests, what was just built is known to exist. */
const tests: Linter.RulesRecord = {
  '@typescript-eslint/no-non-null-assertion': 'off',
  'max-lines': 'off',
};

/** What tools write, and the few lines of configuration that only they read. */
const skipped = ['dist/', '.types/', '.turbo/', '.tarball/', '.results/', 'bench-results/', 'coverage/', '*.config.*'];

function typed(directory: string): Linter.Config[] {
  return defineConfig(
    { ignores: skipped },
    { linterOptions: { reportUnusedDisableDirectives: 'error' } },
    {
      files: ['**/*.{ts,tsx}'],
      extends: [eslint.configs.recommended, configs.strictTypeChecked, configs.stylisticTypeChecked],
      languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: directory } },
      rules: everywhere,
    },
    { files: ['test/**/*.ts'], rules: tests },
  );
}

/** Rules of a published package whose `eslint.config.js` lies in `directory`. */
export function library(directory: string): Linter.Config[] {
  return [...typed(directory), { files: ['src/**/*.ts'], rules: published }];
}

/** Rules of an app or a tool: those of a library, but it may print. */
export function program(directory: string): Linter.Config[] {
  return [...typed(directory), { files: ['src/**/*.{ts,tsx}'], rules: { ...published, 'no-console': 'off' } }];
}
