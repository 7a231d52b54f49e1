/** What stands before the tensor data of a GGUF file (ggml's docs/gguf.md, versions 2 and 3). */

/** Numbers of the value types in the file. */
export const VALUE_TYPE = {
  uint8: 0,
  int8: 1,
  uint16: 2,
  int16: 3,
  uint32: 4,
  int32: 5,
  float32: 6,
  bool: 7,
  string: 8,
  array: 9,
  uint64: 10,
  int64: 11,
  float64: 12,
} as const;
export type ValueType = keyof typeof VALUE_TYPE;
export type ScalarType = Exclude<ValueType, "array" | "string" | "bool">;

export type GgufValue =
  | { readonly type: ScalarType; readonly value: number | bigint }
  | { readonly type: "bool"; readonly value: boolean }
  | { readonly type: "string"; readonly value: string }
  | GgufArray;

export interface GgufArray {
  readonly type: "array";
  readonly elementType: Exclude<ValueType, "array">;
  readonly count: number;
  /** The elements as they stand in the file: a vocabulary is kept once, not as 150,000 objects. */
  readonly bytes: Uint8Array;
}

export interface GgufEntry {
  readonly key: string;
  readonly value: GgufValue;
  /** Type and value as they stand in the file. */
  readonly bytes: Uint8Array;
}

export interface GgufTensor {
  readonly name: string;
  /** Fastest-running dimension first; 1 to 4 of them. */
  readonly dimensions: readonly number[];
  readonly type: number;
  /** From the start of the file. */
  readonly offset: number;
  readonly sizeBytes: number;
}

export interface GgufHeader {
  readonly version: number;
  readonly alignment: number;
  /** In the file's order; keys are unique. */
  readonly entries: ReadonlyMap<string, GgufEntry>;
  readonly tensors: readonly GgufTensor[];
  /** Where tensor data begins. */
  readonly dataOffset: number;
  readonly fileBytes: number;
}
