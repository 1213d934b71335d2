import type { HostTensor } from '@heed/core';

/** Elements of a dense tensor to their places in a strided one of the same shape. */
export function copyStrided(source: HostTensor, target: HostTensor): void {
  const [from, to] = [source.view(), target.view()];
  for (let flat = 0; flat < from.length; flat += 1) {
    let [rest, place] = [flat, 0];
    for (let axis = source.shape.length - 1; axis >= 0; axis -= 1) {
      const size = source.shape[axis] ?? 1;
      place += (rest % size) * (target.strides[axis] ?? 0);
      rest = Math.floor(rest / size);
    }
    to[place] = from[flat] ?? 0;
  }
}
