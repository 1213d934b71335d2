export { sinusoidalPositions } from './positions/sinusoidal.ts';
export type { SinusoidalOptions } from './positions/sinusoidal.ts';
