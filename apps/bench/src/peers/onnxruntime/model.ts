import protobuf from 'protobufjs/light.js';

/** A model of one operator: what an ONNX file holds. */
export interface OneOperator {
  readonly operator: string;
  /** Empty for the standard's own operators. */
  readonly domain: '' | 'com.microsoft';
  /** In the operator's order; null for an optional one that is left out. */
  readonly inputs: readonly (TensorName | null)[];
  readonly outputs: readonly TensorName[];
  readonly attributes: Readonly<Record<string, Attribute>>;
}

/** A tensor of any shape. */
export interface TensorName {
  readonly name: string;
  readonly type: ElementType;
}

export type ElementType = 'float32' | 'int32' | 'bool';

export type Attribute = { readonly int: number } | { readonly float: number } | { readonly text: string };

/** TensorProto.DataType of onnx.proto. */
const elementTypes: Readonly<Record<ElementType, number>> = { float32: 1, int32: 6, bool: 9 };

/** AttributeProto.AttributeType of onnx.proto. */
const attributeTypes = { float: 1, int: 2, text: 3 } as const;

// The first standard with an Attention operator is 23; its models have this version of the file format or a later one.
const opset = 23;
const fileFormat = 10;

/** The messages and fields of onnx.proto that a model of one operator has, by their numbers there. */
function modelType(): protobuf.Type {
  const one = (type: string, id: number): protobuf.IField => ({ type, id });
  const many = (type: string, id: number): protobuf.IField => ({ type, id, rule: 'repeated' });
  const message = (fields: Readonly<Record<string, protobuf.IField>>): protobuf.IType => ({ fields: { ...fields } });
  const root = protobuf.Root.fromJSON({
    nested: {
      ModelProto: message({ irVersion: one('int64', 1), graph: one('GraphProto', 7), opsetImport: many('OperatorSetIdProto', 8) }),
      OperatorSetIdProto: message({ domain: one('string', 1), version: one('int64', 2) }),
      GraphProto: message({ node: many('NodeProto', 1), name: one('string', 2), input: many('ValueInfoProto', 11), output: many('ValueInfoProto', 12) }),
      NodeProto: message({ input: many('string', 1), output: many('string', 2), opType: one('string', 4), attribute: many('AttributeProto', 5), domain: one('string', 7) }),
      AttributeProto: message({ name: one('string', 1), f: one('float', 2), i: one('int64', 3), s: one('bytes', 4), type: one('int32', 20) }),
      ValueInfoProto: message({ name: one('string', 1), type: one('TypeProto', 2) }),
      TypeProto: message({ tensorType: one('TensorTypeProto', 1) }),
      TensorTypeProto: message({ elemType: one('int32', 1) }),
    },
  });
  return root.lookupType('ModelProto');
}

/** The bytes of an ONNX model that is one operator. */
export function oneOperatorModel({ operator, domain, inputs, outputs, attributes }: OneOperator): Uint8Array {
  const named = ({ name, type }: TensorName): object => ({ name, type: { tensorType: { elemType: elementTypes[type] } } });
  const type = modelType();
  const model = type.create({
    irVersion: fileFormat,
    opsetImport: [{ domain: '', version: opset }, ...(domain === '' ? [] : [{ domain, version: 1 }])],
    graph: {
      name: operator,
      node: [
        {
          opType: operator,
          domain,
          input: inputs.map((input) => input?.name ?? ''),
          output: outputs.map(({ name }) => name),
          attribute: Object.entries(attributes).map(([name, attribute]) => ({ name, ...valueOf(attribute) })),
        },
      ],
      input: inputs.filter((input) => input !== null).map(named),
      output: outputs.map(named),
    },
  });
  return type.encode(model).finish();
}

/** The fields of an AttributeProto that hold a value. */
function valueOf(attribute: Attribute): object {
  if ('int' in attribute) return { i: attribute.int, type: attributeTypes.int };
  if ('float' in attribute) return { f: attribute.float, type: attributeTypes.float };
  return { s: new TextEncoder().encode(attribute.text), type: attributeTypes.text };
}
