import type { Page } from 'playwright-core';
import type { Finding } from '../../../tooling/checks/src/counts.ts';
import { finding, openPage, settled, type Setting } from './setting.ts';

/** What is wrong is said where it is, and the rest of the page goes on. */
export async function badInput(setting: Setting): Promise<readonly Finding[]> {
  const check = async (what: string, hash: string, act: (page: Page) => Promise<readonly string[]>): Promise<Finding> =>
    finding(what, async () => {
      const { page, complaints } = await openPage(setting, `${setting.address}${hash}`);
      await settled(page);
      const problems = await act(page);
      // Whatever happened, the page still computes.
      await page.getByRole('button', { name: 'Graph' }).click();
      await page.getByRole('button', { name: 'Stages', exact: true }).click();
      const alive = await page.locator('h1').count();
      await page.close();
      return [...complaints, ...problems, ...(alive === 1 ? [] : ['the page is gone'])];
    });
  const alertAt = async (page: Page, selector: string, pattern: RegExp): Promise<readonly string[]> => {
    const alert = page.locator(selector).locator('[role=alert]');
    await alert.waitFor({ timeout: 5000 });
    const text = (await alert.textContent()) ?? '';
    return pattern.test(text) ? [] : [`${selector} says '${text}'`];
  };
  return [
    await check('an empty text', '', async (page) => {
      await page.locator('.text textarea').fill('');
      const said = await alertAt(page, '.source', /no text/);
      await page.locator('.text textarea').fill('two words');
      await page.waitForFunction(() => document.querySelector('.source [role=alert]') === null);
      return said;
    }),
    await check('a text of 10,000 letters', '', async (page) => {
      await page.locator('.text textarea').fill('word '.repeat(2000));
      await page.waitForFunction(() => document.querySelector('.source .hint')?.textContent.includes('The first 128 of 2000 tokens') === true);
      await page.waitForFunction(() => document.querySelector('footer')?.textContent.includes('128 × 128') === true);
      return [];
    }),
    await check('no number in a table', '', async (page) => {
      await page.getByRole('button', { name: 'Type numbers instead' }).click();
      await page.locator('.tables textarea').first().fill('1 NaN');
      return alertAt(page, '.tables label:first-child', /'NaN' is no finite number/);
    }),
    await check('a mask that is none', '', async (page) => {
      await page.getByPlaceholder('k <= q && (q - k) % 2 == 0').fill('q -');
      return alertAt(page, '.controls', /cannot be read/);
    }),
    await check('a score that would be code elsewhere', '', async (page) => {
      await page.getByPlaceholder('score - 0.2 * abs(q - k)').fill('alert(1)');
      return alertAt(page, '.controls', /There is no alert/);
    }),
    await check('a file that is no safetensors', '', async (page) => {
      await page.locator('input[type=file]').setInputFiles({ name: 'broken.safetensors', mimeType: 'application/octet-stream', buffer: Buffer.from([1, 2, 3]) });
      return alertAt(page, '.source', /Not a safetensors file/);
    }),
    await finding('a GPU device that is lost', async () => {
      const keepDevices = async (opened: Page): Promise<void> => {
        await opened.addInitScript(() => {
          const devices: GPUDevice[] = [];
          Reflect.set(globalThis, 'keptDevices', devices);
          // eslint-disable-next-line @typescript-eslint/unbound-method -- it is called with its own adapter below
          const request = GPUAdapter.prototype.requestDevice;
          GPUAdapter.prototype.requestDevice = async function (descriptor) {
            const device = await request.call(this, descriptor);
            devices.push(device);
            return device;
          };
        });
      };
      const { page, complaints } = await openPage(setting, `${setting.address}#backend=webgpu`, {}, keepDevices);
      await settled(page);
      await page.waitForFunction(() => document.querySelector('footer')?.textContent.startsWith('webgpu') === true, undefined, { timeout: 60_000 });
      const made = await page.evaluate(() => {
        const devices = Reflect.get(globalThis, 'keptDevices') as GPUDevice[];
        for (const device of devices) device.destroy();
        return devices.length;
      });
      const before = await page.locator('figure.heat-map .cells canvas').nth(4).evaluate((canvas: HTMLCanvasElement) => canvas.toDataURL());
      await page.locator('.slider input').first().fill('0.05');
      await page.waitForFunction((old) => document.querySelectorAll<HTMLCanvasElement>('figure.heat-map .cells canvas')[4]?.toDataURL() !== old, before, { timeout: 60_000 });
      const alerts = await page.locator('[role=alert]').allTextContents();
      await page.close();
      return [...complaints, ...alerts, ...(made > 0 ? [] : ['no device was made, so none was lost'])];
    }),
  ];
}
