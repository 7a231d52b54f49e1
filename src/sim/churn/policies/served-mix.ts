/**
 * The models of a churn run: five sizes, the largest of which fits no single machine here and needs a chain of stages. Sizes are those
 * of common open models in 4-bit and 8-bit files (weights, layers, keys and values of grouped-query attention in half precision);
 * the names say the size and no product.
 */
export interface SimModel {
  readonly name: string;
  readonly layerCount: number;
  readonly layerBytes: number;
  /** Embedding and head: whoever holds the first or the last layer holds half of it. */
  readonly endsBytes: number;
  /** Of one layer, both keys and values. */
  readonly kvBytesPerTokenLayer: number;
  /** A token's hidden state between two stages. */
  readonly activationBytes: number;
  /** Multiplications and additions of one layer for one token. */
  readonly flopsPerTokenLayer: number;
}

interface Shape {
  readonly name: string;
  readonly billions: number;
  readonly layers: number;
  readonly fileGb: number;
  readonly hidden: number;
  readonly kvHeads: number;
  readonly headLength: number;
}

const GB = 1e9;
const HALF_BYTES = 2;
/** Share of a file that is embedding and head. */
const ENDS_SHARE = 0.05;

const SHAPES: readonly Shape[] = [
  { name: "8b-q4", billions: 8, layers: 32, fileGb: 4.9, hidden: 4_096, kvHeads: 8, headLength: 128 },
  { name: "3b-q8", billions: 3, layers: 28, fileGb: 3.4, hidden: 3_072, kvHeads: 8, headLength: 128 },
  { name: "14b-q4", billions: 14, layers: 48, fileGb: 9, hidden: 5_120, kvHeads: 8, headLength: 128 },
  { name: "32b-q4", billions: 32, layers: 64, fileGb: 19.9, hidden: 5_120, kvHeads: 8, headLength: 128 },
  { name: "70b-q4", billions: 70, layers: 80, fileGb: 42.5, hidden: 8_192, kvHeads: 8, headLength: 128 },
];

/** By popularity: the first is asked most. */
export const SERVED_MIX: readonly SimModel[] = SHAPES.map(modelOf);

export function modelBytes(model: SimModel): number {
  return model.layerCount * model.layerBytes + model.endsBytes;
}

function modelOf(shape: Shape): SimModel {
  const { name, billions, layers, fileGb, hidden, kvHeads, headLength } = shape;
  return {
    name,
    layerCount: layers,
    layerBytes: (fileGb * GB * (1 - ENDS_SHARE)) / layers,
    endsBytes: fileGb * GB * ENDS_SHARE,
    kvBytesPerTokenLayer: 2 * kvHeads * headLength * HALF_BYTES,
    activationBytes: hidden * HALF_BYTES,
    flopsPerTokenLayer: (2 * billions * 1e9) / layers,
  };
}
