export { assessLinear, describePlan, readRequest } from './assess.ts';
export type { Limits } from './assess.ts';
export type { Recall } from './order.ts';
export type { LinearPlan } from './plan.ts';
export { recognise } from './recognise.ts';
export type { LinearReading } from './recognise.ts';
