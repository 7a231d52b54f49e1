/** Builds GGUF files byte by byte, right or wrong. */

export class GgufBytes {
  readonly #parts: Uint8Array[] = [];

  magic(version: number): this {
    return this.raw(Buffer.from("GGUF")).u32(version);
  }

  u32(value: number): this {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(value);
    return this.raw(bytes);
  }

  u64(value: bigint): this {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(value);
    return this.raw(bytes);
  }

  f32(value: number): this {
    const bytes = Buffer.alloc(4);
    bytes.writeFloatLE(value);
    return this.raw(bytes);
  }

  text(text: string): this {
    const bytes = Buffer.from(text);
    return this.u64(BigInt(bytes.length)).raw(bytes);
  }

  raw(bytes: Uint8Array): this {
    this.#parts.push(bytes);
    return this;
  }

  done(): Uint8Array {
    return Uint8Array.from(Buffer.concat(this.#parts));
  }
}

export interface SampleValue {
  readonly type: number;
  readonly bytes: Uint8Array;
}

export interface SampleTensor {
  readonly name: string;
  readonly dimensions: readonly bigint[];
  readonly type: number;
  readonly offset: bigint;
}

/** A version 3 file with this metadata and these tensors; `dataBytes` zeros stand for tensor data. */
export function sampleGguf(file: {
  readonly entries: readonly (readonly [key: string, value: SampleValue])[];
  readonly tensors: readonly SampleTensor[];
  readonly dataBytes?: number;
}): Uint8Array {
  const out = new GgufBytes().magic(3).u64(BigInt(file.tensors.length)).u64(BigInt(file.entries.length));
  for (const [key, value] of file.entries) out.text(key).u32(value.type).raw(value.bytes);
  for (const tensor of file.tensors) {
    out.text(tensor.name).u32(tensor.dimensions.length);
    for (const dimension of tensor.dimensions) out.u64(dimension);
    out.u32(tensor.type).u64(tensor.offset);
  }
  const header = out.done();
  const dataOffset = Math.ceil(header.length / 32) * 32;
  const whole = new Uint8Array(dataOffset + (file.dataBytes ?? 0));
  whole.set(header);
  return whole;
}

export const uint32 = (value: number): SampleValue => ({ type: 4, bytes: new GgufBytes().u32(value).done() });
export const float32 = (value: number): SampleValue => ({ type: 6, bytes: new GgufBytes().f32(value).done() });
export const string = (text: string): SampleValue => ({ type: 8, bytes: new GgufBytes().text(text).done() });

export function strings(texts: readonly string[]): SampleValue {
  const out = new GgufBytes().u32(8).u64(BigInt(texts.length));
  for (const text of texts) out.text(text);
  return { type: 9, bytes: out.done() };
}

export function uint32s(values: readonly number[], elementType = 4): SampleValue {
  const out = new GgufBytes().u32(elementType).u64(BigInt(values.length));
  for (const value of values) out.u32(value);
  return { type: 9, bytes: out.done() };
}

export function float32s(values: readonly number[]): SampleValue {
  const out = new GgufBytes().u32(6).u64(BigInt(values.length));
  for (const value of values) out.f32(value);
  return { type: 9, bytes: out.done() };
}
