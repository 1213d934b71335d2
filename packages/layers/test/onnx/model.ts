import type { HostTensor } from '@heed/core';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import protobuf from 'protobufjs/light.js';

/** One operator of a graph: names of what it reads (empty for an optional one that is left out) and makes. */
export interface Node {
  readonly operator: string;
  readonly inputs: readonly string[];
  readonly output: string;
  readonly attributes?: Readonly<Record<string, number>>;
  /** Attributes that are floats. */
  readonly floats?: Readonly<Record<string, number>>;
}

export interface Graph {
  readonly nodes: readonly Node[];
  readonly constants: Readonly<Record<string, HostTensor>>;
  /** What the graph is given, and the rank of each. */
  readonly inputs: Readonly<Record<string, number>>;
  readonly output: string;
}

const opset = 23;
const fileFormat = 10;
const float = 1;

/** The messages and fields of onnx.proto that these graphs have, by their numbers there. */
function modelType(): protobuf.Type {
  const one = (type: string, id: number): protobuf.IField => ({ type, id });
  const many = (type: string, id: number): protobuf.IField => ({ type, id, rule: 'repeated' });
  const root = protobuf.Root.fromJSON({
    nested: {
      ModelProto: { fields: { irVersion: one('int64', 1), graph: one('GraphProto', 7), opsetImport: many('OperatorSetIdProto', 8) } },
      OperatorSetIdProto: { fields: { domain: one('string', 1), version: one('int64', 2) } },
      GraphProto: { fields: { node: many('NodeProto', 1), name: one('string', 2), initializer: many('TensorProto', 5), input: many('ValueInfoProto', 11), output: many('ValueInfoProto', 12) } },
      NodeProto: { fields: { input: many('string', 1), output: many('string', 2), opType: one('string', 4), attribute: many('AttributeProto', 5), domain: one('string', 7) } },
      AttributeProto: { fields: { name: one('string', 1), f: one('float', 2), i: one('int64', 3), type: one('int32', 20) } },
      TensorProto: { fields: { dims: many('int64', 1), dataType: one('int32', 2), name: one('string', 8), rawData: one('bytes', 9) } },
      ValueInfoProto: { fields: { name: one('string', 1), type: one('TypeProto', 2) } },
      TypeProto: { fields: { tensorType: one('TensorTypeProto', 1) } },
      TensorTypeProto: { fields: { elemType: one('int32', 1), shape: one('TensorShapeProto', 2) } },
      TensorShapeProto: { fields: { dim: many('Dimension', 1) } },
      Dimension: { fields: { dimValue: one('int64', 1), dimParam: one('string', 2) } },
    },
  });
  return root.lookupType('ModelProto');
}

/** The bytes of a model of float32. */
export function modelOf({ nodes, constants, inputs, output }: Graph): Uint8Array {
  const value = (name: string, rank: number | null): object => ({
    name,
    type: { tensorType: { elemType: float, ...(rank === null ? {} : { shape: { dim: Array.from({ length: rank }, (_, axis) => ({ dimParam: `${name}${axis}` })) } }) } },
  });
  const type = modelType();
  const model = type.create({
    irVersion: fileFormat,
    opsetImport: [{ domain: '', version: opset }],
    graph: {
      name: 'layer',
      node: nodes.map(({ operator, inputs: reads, output: made, attributes = {}, floats = {} }) => ({
        opType: operator,
        input: [...reads],
        output: [made],
        attribute: [...Object.entries(attributes).map(([name, i]) => ({ name, i, type: 2 })), ...Object.entries(floats).map(([name, f]) => ({ name, f, type: 1 }))],
      })),
      initializer: Object.entries(constants).map(([name, constant]) => {
        const array = constant.view() as Float32Array;
        return { name, dims: [...constant.shape], dataType: float, rawData: new Uint8Array(array.buffer, array.byteOffset, array.byteLength) };
      }),
      input: Object.entries(inputs).map(([name, rank]) => value(name, rank)),
      output: [value(output, null)],
    },
  });
  return type.encode(model).finish();
}

/** Runs a graph once in onnxruntime-node. */
export async function runGraph(graph: Graph, given: Readonly<Record<string, HostTensor>>): Promise<Float32Array> {
  const session = await InferenceSession.create(modelOf(graph), { executionProviders: ['cpu'] });
  try {
    const feeds = Object.fromEntries(Object.entries(given).map(([name, tensor]) => [name, new Tensor('float32', tensor.view() as Float32Array, tensor.shape)]));
    const { [graph.output]: made } = await session.run(feeds);
    if (!(made?.data instanceof Float32Array)) throw new Error('onnxruntime made no float32 tensor');
    return made.data;
  } finally {
    await session.release();
  }
}
