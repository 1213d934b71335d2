import { totalmem } from 'node:os';
import type { Competitor } from '../competitor.ts';
import type { StartOptions } from '../competitors.ts';
import { onnxruntimeCompetitor } from './onnxruntime/competitor.ts';

/** ONNX Runtime as native code, on its CPU provider. */
export async function onnxruntimeNode({ threads }: StartOptions): Promise<Competitor> {
  const { default: library } = await import('onnxruntime-node');
  const session = {
    executionProviders: ['cpu'],
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    // What it has to say, it throws.
    logSeverityLevel: 4,
    // Its threads spin while a call lasts, as they do by default; after it they would take a core from whoever is next.
    extra: { session: { force_spinning_stop: '1' } },
  } as const;
  return onnxruntimeCompetitor(
    { library, session, writesGivenOutputs: true, largestScores: totalmem() / 4 },
    { name: 'onnxruntime-node', about: `ONNX Runtime ${library.env.versions.node ?? library.env.versions.common}, native, ${threads} threads.`, limit: null },
  );
}
