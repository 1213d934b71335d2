import type { HostPartial, Partial, Tensor } from '@heed/core';
import { isHostTensor } from '@heed/core';
import type { CaseContext } from './context.ts';

/** A partial result with all of its tensors on the host, for `merge` and `finalize`. */
export async function hostPartial(context: CaseContext, partial: Partial): Promise<HostPartial> {
  const host = async (source: Tensor): Promise<HostPartial['accumulator']> => (isHostTensor(source) ? source : (source.runtime ?? context.backend.runtime).read(source));
  const statistics: Record<string, HostPartial['accumulator']> = {};
  for (const [name, statistic] of Object.entries(partial.statistics)) statistics[name] = await host(statistic);
  return { mergeClass: partial.mergeClass, accumulator: await host(partial.accumulator), statistics };
}
