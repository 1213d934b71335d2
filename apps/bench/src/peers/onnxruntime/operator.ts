import type { Inputs } from '../../inputs.ts';
import type { Workload } from '../../workloads.ts';
import type { Attribute, ElementType } from './model.ts';

/** A tensor with its elements. */
export interface Fed {
  readonly name: string;
  readonly type: ElementType;
  readonly elements: Float32Array | Int32Array | Uint8Array;
  readonly shape: readonly number[];
}

/** One operator with everything that one workload gives it. The first output is the result. */
export interface OperatorCall {
  readonly inputs: readonly (Fed | null)[];
  readonly outputs: readonly { readonly name: string; readonly shape: readonly number[]; /** The input whose memory it shares. */ readonly inPlaceOf?: string }[];
  readonly attributes: Readonly<Record<string, Attribute>>;
  /** The first output's elements as [batch, heads, queryLength, valueDim]. */
  read(output: Float32Array): Float32Array;
}

/** An attention operator of ONNX Runtime, as far as it computes the bench's layers. */
export interface Operator {
  /** What a report calls it. */
  readonly way: string;
  readonly operator: string;
  readonly domain: '' | 'com.microsoft';
  /** Needs outputs that the caller gives, which may share memory with inputs. */
  readonly inPlace: boolean;
  refuses(workload: Workload): string | null;
  call(workload: Workload, inputs: Inputs): OperatorCall;
}

/** Bytes of a table of scores that an operator may be given; larger ones would be most of what is measured. */
export const largestTable: number = 256 * 2 ** 20;
