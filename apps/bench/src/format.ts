/** Numbers as people read them. */

/** `830 µs`, `4.2 ms`, `1.3 s` */
export function formatMilliseconds(milliseconds: number): string {
  if (milliseconds < 1) return `${threeDigits(milliseconds * 1000)} µs`;
  return milliseconds < 1000 ? `${threeDigits(milliseconds)} ms` : `${threeDigits(milliseconds / 1000)} s`;
}

/** `512 B`, `1.5 KiB`, `64 MiB` */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  const power = Math.min(units.length - 1, Math.max(0, Math.floor(Math.log2(Math.max(1, bytes)) / 10)));
  return `${threeDigits(bytes / 1024 ** power)} ${units[power] ?? ''}`;
}

/** `41 %`, `0.3 %` */
export function formatShare(share: number): string {
  return `${share >= 0.1 && Number.isFinite(share) ? Math.round(share * 100) : threeDigits(share * 100, 2)} %`;
}

/** `3.2 ×` */
export function formatRatio(ratio: number): string {
  return `${threeDigits(ratio, 2)}×`;
}

/** A plain number with about three digits: `1,234`, `12.3`, `0.0123`. */
export function threeDigits(value: number, digits = 3): string {
  if (value === 0) return '0';
  if (!Number.isFinite(value)) return value > 0 ? '∞' : String(value);
  if (Math.abs(value) >= 10 ** digits) return Math.round(value).toLocaleString('en-US');
  return Math.abs(value) < 1e-3 ? value.toExponential(digits - 1) : String(Number(value.toPrecision(digits)));
}
