import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { Finding } from '../../../tooling/checks/src/counts.ts';
import { views } from '../src/state/state.ts';
import { finding, openPage, settled, type Setting } from './setting.ts';

/** What axe says of a page, as far as it is read here. */
interface AxeResult {
  readonly violations: readonly { readonly id: string; readonly help: string; readonly nodes: readonly { readonly target: readonly string[]; readonly failureSummary?: string }[] }[];
}

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** axe finds no violation in any view, light or dark, wide or narrow; the keyboard reaches and moves what the pointer does. */
export async function accessible(setting: Setting): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  for (const colorScheme of ['light', 'dark'] as const) {
    for (const width of [1360, 390]) {
      for (const view of views) {
        findings.push(await finding(`axe, ${view}, ${colorScheme}, ${width} wide`, async () => {
          const { page } = await openPage(setting, `${setting.address}#view=${view}&masking=causal`, { colorScheme, viewport: { width, height: 900 } });
          await settled(page);
          await page.evaluate(axe);
          const { violations } = await page.evaluate<AxeResult>('axe.run()');
          const scrolls = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
          await page.close();
          return [...violations.map(({ id, help, nodes }) => `${id}: ${help}\n  ${nodes.slice(0, 3).map(({ target, failureSummary }) => `${target.join(' ')} ${failureSummary ?? ''}`).join('\n  ')}`), ...(scrolls > 0 ? [`the page is ${scrolls} pixels wider than its window`] : [])];
        }));
      }
    }
  }
  findings.push(await finding('arrow keys move the chosen cell in every map', async () => {
    const { page } = await openPage(setting, setting.address);
    await settled(page);
    const cells = page.locator('.cells').nth(2);
    await cells.focus();
    for (const key of ['ArrowRight', 'ArrowRight', 'ArrowDown']) await page.keyboard.press(key);
    const heading = await page.locator('.pair h3').textContent();
    const said = await cells.getAttribute('aria-valuetext');
    await page.close();
    return [...(heading === 'How much “bank” attends to “was”' ? [] : [`the heading says '${heading ?? ''}'`]), ...(said?.startsWith('scores, bank to was:') === true ? [] : [`a screen reader is told '${said ?? ''}'`])];
  }));
  return findings;
}
