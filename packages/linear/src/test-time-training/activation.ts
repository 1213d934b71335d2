import type { Activation, Expression } from '@heed/core';
import { write } from '@heed/core';

/** An activation of an inner model and its derivative, as expressions of `element`. */
export interface ActivationForms {
  readonly value: Expression;
  readonly slope: Expression;
}

const geluScale = Math.sqrt(2 / Math.PI);
const cubic = 0.044715;

/** Slopes are written by hand: a derived quotient of exponentials would overflow where the function does not. */
export const activations: Readonly<Record<Activation, ActivationForms>> = {
  geluTanh: {
    value: write('transform', 'geluTanh', ({ element: x }) => x.mul(0.5).mul(x.mul(x).mul(cubic).add(1).mul(x).mul(geluScale).tanh().add(1))).expression,
    slope: write('transform', 'geluTanh', ({ element: x }) => {
      const square = x.mul(x);
      const bend = square.mul(cubic).add(1).mul(x).mul(geluScale).tanh();
      const outward = x.mul(0.5).mul(bend.mul(bend).neg().add(1)).mul(square.mul(3 * cubic).add(1).mul(geluScale));
      return bend.add(1).mul(0.5).add(outward);
    }).expression,
  },
  silu: {
    value: write('transform', 'silu', ({ element: x }) => x.mul(x.sigmoid())).expression,
    slope: write('transform', 'silu', ({ element: x }) => {
      const gate = x.sigmoid();
      return gate.mul(x.mul(gate.neg().add(1)).add(1));
    }).expression,
  },
};
