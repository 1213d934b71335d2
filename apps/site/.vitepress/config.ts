import { join } from 'node:path';
import { defineConfig, type DefaultTheme, type UserConfig } from 'vitepress';
import { collectPages } from '../src/collect-pages.ts';

const folder = join(import.meta.dirname, '..');
const pages = collectPages(join(folder, '../..'), join(folder, '.pages'));

const config: UserConfig<DefaultTheme.Config> = defineConfig({
  title: 'heed',
  description: 'Attention for TypeScript: one description of a variant, many backends, one suite that decides what is right.',
  srcDir: '.pages',
  outDir: './dist',
  cleanUrls: true,
  // Documents link to sources and to files of the repository too, which are no pages.
  ignoreDeadLinks: [/\.\.\//, /\/index$/],
  rewrites: { 'recipes/README.md': 'recipes/index.md', 'decisions/README.md': 'decisions/index.md' },
  themeConfig: {
    search: { provider: 'local' },
    outline: [2, 3],
    nav: [
      { text: 'Start', link: '/guide/start' },
      { text: 'Recipes', link: '/recipes/' },
      { text: 'Laws', link: '/laws' },
      { text: 'Errors', link: '/errors' },
    ],
    sidebar: [
      {
        text: 'Guide',
        items: [
          { text: 'Start in five minutes', link: '/guide/start' },
          { text: 'The four stages', link: '/guide/stages' },
          { text: 'Choosing a backend', link: '/guide/backends' },
          { text: 'Writing a variant', link: '/guide/variant' },
          { text: 'Writing a backend', link: '/guide/backend' },
        ],
      },
      {
        text: 'Recipes',
        items: [
          { text: 'A growing cache', link: '/recipes/growing-cache' },
          { text: 'Packed batches', link: '/recipes/packed' },
          { text: 'A window with sinks', link: '/recipes/window-sinks' },
          { text: 'Bahdanau’s alignment', link: '/recipes/bahdanau' },
          { text: 'A mask of your own', link: '/recipes/own-mask' },
          { text: 'A score with a table', link: '/recipes/score-table' },
          { text: 'Dense and linear', link: '/recipes/hybrid' },
          { text: 'In a Web Worker', link: '/recipes/worker' },
          { text: 'In React', link: '/recipes/react' },
          { text: 'Without threads', link: '/recipes/one-thread' },
        ],
      },
      {
        text: 'Reference',
        items: [
          { text: 'Members of the stages', link: '/variants' },
          { text: 'The contract', link: '/contract' },
          { text: 'Laws', link: '/laws' },
          { text: 'Tolerances', link: '/tolerances' },
          { text: 'Errors', link: '/errors' },
          { text: 'Graphs', link: '/graphs' },
          { text: 'What memories recall', link: '/recall' },
          { text: 'Performance', link: '/performance' },
          { text: 'Decisions', link: '/decisions/' },
        ],
      },
      { text: 'Exports', collapsed: true, items: pages.map(({ name, title }) => ({ text: title, link: `/api/${name}` })) },
    ],
  },
});

export default config;
