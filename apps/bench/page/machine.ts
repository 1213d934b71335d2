import type { Machine } from '../src/machine.ts';

/** Describes this browser, in the fields of a machine. */
export async function describeBrowser(): Promise<Machine> {
  const gpu = (navigator as { readonly gpu?: GPU }).gpu;
  const adapter = await gpu?.requestAdapter({ powerPreference: 'high-performance' });
  const { vendor = '', architecture = '', description = '' } = adapter?.info ?? {};
  const name = [vendor, architecture, description].filter((part) => part !== '').join(' ');
  const memory: unknown = Reflect.get(navigator, 'deviceMemory');
  const engine = /(Firefox|Edg|OPR|Chrome|Version)\/([\d.]+)/.exec(navigator.userAgent);
  return {
    processor: adapter === null || adapter === undefined ? 'no GPU' : `GPU ${name === '' ? 'without a name' : name}`,
    threads: navigator.hardwareConcurrency,
    // Browsers round it, and some do not say.
    memoryBytes: (typeof memory === 'number' ? memory : 0) * 2 ** 30,
    platform: crossOriginIsolated ? 'a page, cross-origin isolated' : 'a page, not isolated',
    runtime: engine === null ? 'an unknown browser' : `${engine[1] === 'Version' ? 'Safari' : (engine[1] ?? '')} ${engine[2] ?? ''}`,
    engine: navigator.userAgent,
  };
}
