import type { AttentionVariant } from '@heed/core';
import { createReferenceBackend } from '@heed/core/reference';
import type { Page } from 'playwright-core';
import type { Finding } from '../../../tooling/checks/src/counts.ts';
import { Caller, type Result } from '../src/model/call.ts';
import { effectsOf } from '../src/model/effect.ts';
import { shown } from '../src/model/formula.ts';
import { headsFor, type HeadTables } from '../src/model/heads.ts';
import { tokensOf } from '../src/model/tokens.ts';
import { variantOf } from '../src/model/variant.ts';
import { firstText, fromHash, views } from '../src/state/state.ts';
import { finding, openPage, settled, type Setting } from './setting.ts';

/** Addresses whose numbers are compared: every stage has another member in one of them, every backend is in one. */
const addresses: readonly string[] = [
  '',
  'head=1&masking=causal&modifiers=softcap alibi&backend=reference',
  'head=3&scoring=cosine&normalization=sparsemax&masking=causalWindow&$window.left=2',
  'head=2&scoring=additive&normalization=sigmoid&aggregation=laser',
  'head=0&typedScore=score - 0.3 * abs(q - k)&typedMask=k <= q',
  'head=4&scoring=rotary&masking=window&backend=webgpu',
];

/** Three pairs of every call. */
const pairs = [[0, 0], [5, 1], [8, 3]] as const;

/** What stands on the page equals the float64 reference, in the digits that it shows. */
export async function numbers(setting: Setting): Promise<readonly Finding[]> {
  return [
    ...(await Promise.all(addresses.map(async (address) => finding(`stages of '${address}' show the reference's numbers`, async () => compareStages(setting, address))))),
    ...(await Promise.all(views.map(async (view) => finding(`the view ${view} opens without complaint`, async () => {
      const { page, complaints } = await openPage(setting, `${setting.address}#view=${view}&masking=causal`);
      await settled(page);
      await page.close();
      return complaints;
    })))),
    await finding('the view scale shows spreads as theory has them: √d, and one', async () => {
      const { page } = await openPage(setting, `${setting.address}#view=scale`);
      await page.waitForSelector('tbody tr');
      const rows = await page.$$eval('tbody tr', (all) => all.map((row) => [...row.children].map((cell) => Number(cell.textContent))));
      await page.close();
      // 2,048 scores of each width: their spread has a relative error of about 1/√(2 · 2048), more for narrow rows, whose scores are not normal.
      return rows.flatMap(([dim = 0, plain = 0, scaled = 0]) => (Math.abs(plain / Math.sqrt(dim) - 1) < 0.15 && Math.abs(scaled - 1) < 0.15 ? [] : [`width ${dim}: ${plain} and ${scaled}`]));
    }),
    await finding('one thread computes where the page is not isolated, and it says so', async () => {
      const { page, complaints } = await openPage(setting, setting.plainAddress);
      await settled(page);
      const text = await page.textContent('footer');
      await page.close();
      return [...complaints, ...(text?.includes('one thread') === true ? [] : [`the footer says '${text ?? ''}'`])];
    }),
  ];
}

async function compareStages(setting: Setting, address: string): Promise<readonly string[]> {
  const state = fromHash(address);
  const heads = headsFor(tokensOf(firstText));
  const [queryLength = 0, queryDim = 0] = heads.query.shape.slice(2);
  const described = variantOf(state, { queryLength, queryDim });
  const { variant } = described;
  const want = await new Caller().run(createReferenceBackend(), described, heads, state.uniforms);
  const { page, complaints } = await openPage(setting, `${setting.address}#${address}`);
  try {
    await settled(page);
    const problems: string[] = [];
    for (const [query, key] of pairs) problems.push(...(await comparePair(page, want, variant, heads, { head: state.head, query, key })));
    return [...complaints, ...problems];
  } finally {
    await page.close();
  }
}

async function comparePair(page: Page, want: Result, variant: AttentionVariant, heads: HeadTables, { head, query, key }: { readonly head: number; readonly query: number; readonly key: number }): Promise<readonly string[]> {
  const map = (title: string): ReturnType<Page['locator']> => page.locator('figure.heat-map').filter({ has: page.locator(`figcaption:text-is("${title}")`) }).first();
  const cells = map('weights').locator('.cells');
  const box = await cells.boundingBox();
  if (box === null) return ['there is no heat map of weights'];
  await cells.click({ position: { x: ((key + 0.5) * box.width) / want.keyLength, y: ((query + 0.5) * box.height) / want.queryLength } });
  const place = (head * want.queryLength + query) * want.keyLength + key;
  const size = want.queryLength * want.keyLength;
  const values = Float32Array.from(heads.value.view()).subarray(head * want.keyLength * want.valueDim, (head + 1) * want.keyLength * want.valueDim);
  const share = variant.normalization.rule.kind === 'softmax' && variant.aggregation.reduction === 'sum';
  const effects = effectsOf(want.stages.weights.subarray(head * size, (head + 1) * size), values, want.output.subarray(head * want.queryLength * want.valueDim, (head + 1) * want.queryLength * want.valueDim), want.valueDim, share);
  const expected: Readonly<Record<string, number | undefined>> = {
    scores: want.stages.scores[place],
    ...(variant.scoring.modifiers.length > 0 ? { 'modified scores': want.stages.modified[place] } : {}),
    'masked scores': want.stages.masked[place],
    weights: want.stages.weights[place],
    'leave-one-out effect': effects.leaveOneOut[query * want.keyLength + key],
  };
  const problems: string[] = [];
  for (const [title, value = Number.NaN] of Object.entries(expected)) {
    const text = (await map(title).locator('.readout').textContent()) ?? '';
    if (!agrees(text, value)) problems.push(`${title} at ${query}, ${key}: the page says ${text}, the reference ${shown(value)}`);
  }
  return problems;
}

/** Equal in the digits shown: three behind the point, or two of a power of ten, where float32 may round the other way. */
function agrees(text: string, value: number): boolean {
  const read = Number(text.replace('−', '-').replace('∞', 'Infinity'));
  if (!Number.isFinite(value)) return Object.is(read, value);
  return Math.abs(read - value) <= (text.includes('e') ? 0.06 * Math.abs(value) : 0.00051 + 1e-5 * Math.abs(value));
}

