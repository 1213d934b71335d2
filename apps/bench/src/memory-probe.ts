/** Program of a probe process (see memory.ts): makes one call and prints its peak in bytes. */
import { bytesPerElement } from '@heed/core';
import { parseArguments } from './arguments.ts';
import { competitorSources } from './competitors.ts';
import { randomInputs } from './inputs.ts';
import { measurePeakBytes, type MemoryProbe } from './memory.ts';
import { plannedWork } from './plan.ts';
import type { Workload } from './workloads.ts';

async function probe({ argv, workload: id, competitor: name, way }: MemoryProbe): Promise<number> {
  const asked = parseArguments(argv);
  const { workloads, recorded } = await plannedWork(asked);
  const workload = workloads.find((candidate) => candidate.id === id);
  const source = competitorSources.find((candidate) => candidate.name === name);
  if (workload === undefined || source === undefined) throw new RangeError(`No call '${id}' by '${name}'.`);
  const competitor = await source.start(asked);
  // A call of one query has its code compiled before the one that counts.
  const small: Workload = { ...workload, batch: 1, queryLength: 1, queryOffset: workload.queryOffset + workload.queryLength - 1 };
  const warm = await competitor.prepare(small, randomInputs(small), way ?? undefined);
  await warm.run();
  await warm.dispose();
  const prepared = await competitor.prepare(workload, recorded.get(id) ?? randomInputs(workload), way ?? undefined);
  const { layer, batch, queryLength, dtype } = workload;
  const bytes = await measurePeakBytes(prepared, batch * layer.heads * queryLength * layer.valueDim * bytesPerElement[dtype]);
  await prepared.dispose();
  await competitor.dispose();
  return bytes;
}

console.log(JSON.stringify(await probe(JSON.parse(process.argv[2] ?? '') as MemoryProbe)));
