import type { AttentionInputs, AttentionRequest, Capabilities, DType, ObservedStage, StorageForm } from '@heed/core';
import { attention, edgeBias, scaledDot, softmax } from '@heed/core';
import type { Need } from './case.ts';
import type { CaseContext } from './context.ts';
import { drawInputs, integerTensor, smallShape } from './inputs.ts';
import { float32Attention } from './tolerance.ts';

/** Whether a backend declares what a case needs. */
export function has(capabilities: Capabilities, need: Need): boolean {
  const [field, value] = need.split(':') as [string, string | undefined];
  switch (field) {
    case 'attention':
    case 'fastWeights':
      return capabilities.variants.includes(field);
    case 'observe':
      return capabilities.observe.includes(value as ObservedStage);
    case 'dtype':
      return capabilities.dtypes.includes(value as DType);
    case 'storage':
      return capabilities.storage.includes(value as StorageForm);
    case 'nonFinite':
      return capabilities.nonFinite === 'exact';
    default:
      return capabilities[field as 'logSumExp' | 'partial' | 'blocks' | 'edges' | 'packed' | 'explicitPositions' | 'transformKeys' | 'keyMass' | 'gradients' | 'abort' | 'deterministic'];
  }
}

/** A request that any backend of pairwise attention takes. */
export const plainRequest: AttentionRequest = { variant: attention({ normalization: softmax() }), queryDim: smallShape.queryDim, keyDim: smallShape.keyDim, valueDim: smallShape.valueDim };

/** What is tested where a need is missing, in words. */
export function refusalPlan(need: Need): string {
  return `The backend does not declare ${need}: asking for it must be refused with a typed error or a reason that names the stage, or, where it is only a promise about results, the weaker promise must hold.`;
}

/** The test that stands in for a case whose need the backend does not declare. */
export async function testMissing(context: CaseContext, need: Need): Promise<void> {
  const [field, value] = need.split(':') as [string, string | undefined];
  const { backend } = context;
  switch (field) {
    case 'attention':
      await context.properlyRefused(backend, plainRequest);
      return;
    case 'fastWeights':
      context.check(!backend.capabilities.variants.includes('fastWeights'), () => 'The capability is listed after all.');
      return;
    case 'dtype':
      await context.properlyRefused(backend, { ...plainRequest, dtypes: { query: value as DType, key: value as DType, value: value as DType, output: 'f32' } }, 'dtype');
      return;
    case 'storage':
      await context.properlyRefused(backend, { ...plainRequest, storage: value as StorageForm }, 'storage');
      return;
    case 'observe':
      await context.properlyRefused(backend, { ...plainRequest, observe: { stages: [value as ObservedStage] } }, 'observe');
      return;
    case 'keyMass':
      await context.properlyRefused(backend, { ...plainRequest, observe: { stages: [], keyMass: true } }, 'observe');
      return;
    case 'gradients':
      await context.properlyRefused(backend, { ...plainRequest, gradients: ['query'] }, 'gradients');
      return;
    case 'logSumExp': {
      const numbers = await context.run(plainRequest, drawInputs(context.random, smallShape));
      context.check(numbers.logSumExp === null, () => 'logSumExp is returned although the capabilities say that it is not.');
      return;
    }
    case 'deterministic':
    case 'nonFinite': {
      const inputs = drawInputs(context.random, smallShape);
      const [first, second] = [await context.run(plainRequest, inputs), await context.run(plainRequest, inputs)];
      const bound = float32Attention.bound({ length: smallShape.keyLength, dim: smallShape.queryDim, dtype: 'f32' });
      context.close('the second run of the same call', first.output, second.output, bound);
      return;
    }
    default:
      await testMissingInput(context, field);
  }
}

/** Inputs and calls that a kernel must refuse when its backend does not declare them. */
async function testMissingInput(context: CaseContext, field: string): Promise<void> {
  const { backend } = context;
  const kernel = await context.kernel(plainRequest);
  const inputs = drawInputs(context.random, smallShape);
  const { queryLength, keyLength } = smallShape;
  const refuseRun = (extra: Partial<AttentionInputs>): Promise<void> => context.refuses(`run with ${field}`, () => kernel.run({ ...inputs, ...extra }), 'unsupported');
  switch (field) {
    case 'partial':
      await context.refuses('partial', () => kernel.partial(inputs), 'unsupported', 'merge-refused');
      return;
    case 'transformKeys':
      await context.refuses('transformKeys', () => kernel.transformKeys(inputs), 'unsupported');
      return;
    case 'abort':
      await context.refuses('run with a signal', () => kernel.run(inputs, { signal: AbortSignal.abort() }), 'unsupported', 'aborted');
      return;
    case 'blocks':
      await refuseRun({ blocks: { blockQuery: 64, blockKey: 64, counts: integerTensor([1], [1, 1, 1]), indices: integerTensor([0], [1, 1, 1, 1]) } });
      return;
    case 'edges':
      await context.properlyRefused(backend, { ...plainRequest, variant: attention({ scoring: scaledDot().modify(edgeBias()) }) }, 'scoring');
      await refuseRun({ edges: { starts: integerTensor(new Array<number>(queryLength + 1).fill(0), [queryLength + 1]), keys: integerTensor([], [0]) } });
      return;
    case 'explicitPositions':
      await refuseRun({
        queryPositions: integerTensor(Array.from({ length: queryLength }, (_, index) => index), [1, queryLength]),
        keyPositions: integerTensor(Array.from({ length: keyLength }, (_, index) => index), [1, keyLength]),
      });
      return;
    case 'packed': {
      const one = drawInputs(context.random, { ...smallShape, batch: 1 });
      await context.refuses('run with packed', () => kernel.run({ ...one, packed: { query: [0, 2, queryLength], key: [0, 3, keyLength] } }), 'unsupported');
    }
  }
}
