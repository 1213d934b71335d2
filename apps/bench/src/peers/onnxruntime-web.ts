import type * as Web from 'onnxruntime-web';
import type { Competitor } from '../competitor.ts';
import type { StartOptions } from '../competitors.ts';
import { wasmLimits } from '../limits.ts';
import { onnxruntimeCompetitor } from './onnxruntime/competitor.ts';
import { oneOperatorModel, type TensorName } from './onnxruntime/model.ts';

/** ONNX Runtime as WebAssembly. Every call copies its inputs into WebAssembly memory and its outputs back; there is no way around that. */
export async function onnxruntimeWeb({ threads }: StartOptions): Promise<Competitor> {
  const library = await import('onnxruntime-web');
  library.env.wasm.numThreads = threads;
  const session = { executionProviders: ['wasm'], logSeverityLevel: 4 } as const;
  await loadWithoutTrace(library, session);
  return onnxruntimeCompetitor(
    { library, session, writesGivenOutputs: false, largestScores },
    {
      name: 'onnxruntime-web',
      about: `ONNX Runtime ${library.env.versions.web ?? library.env.versions.common}, WebAssembly, ${threads} threads; each call copies its inputs and outputs.`,
      limit: threads === 1 ? wasmLimits.portable.perCore : wasmLimits.portable.allCores,
      restMilliseconds: spinningMilliseconds,
    },
  );
}

/**
 * Its module is loaded with the first session, and then leaves a global `Worker` behind, by which other libraries take Node for a browser
 * and go wrong. It has its threads by then, so the global can go.
 */
async function loadWithoutTrace({ InferenceSession }: typeof Web, session: Web.InferenceSession.SessionOptions): Promise<void> {
  const before = Object.getOwnPropertyDescriptor(globalThis, 'Worker');
  const tensor = (name: string): TensorName => ({ name, type: 'float32' });
  const first = await InferenceSession.create(oneOperatorModel({ operator: 'Identity', domain: '', inputs: [tensor('x')], outputs: [tensor('y')], attributes: {} }), session);
  await first.release();
  if (before === undefined) Reflect.deleteProperty(globalThis, 'Worker');
}

// Beyond, its operators run out of the 4 GiB that WebAssembly has, or overflow: seen at 1 GiB of scores.
const largestScores = 512 * 2 ** 20;

// Its threads spin about so long after a call, and it has no option for that.
const spinningMilliseconds = 25;
