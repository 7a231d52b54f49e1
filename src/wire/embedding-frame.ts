/** All vectors of an embedding request come in one frame, so a frame bounds how many inputs a model takes at once. */

/** What goes around the vectors in their frame. */
const ENVELOPE_BYTES = 4_096;
/** Quotes and a comma. */
const AROUND_VECTOR_BYTES = 3;
const FLOAT_BYTES = 4;

/** The most that a frame with so many vectors takes: base64 makes four characters of three bytes. */
export function embeddingFrameBytes(vectors: { readonly count: number; readonly embeddingLength: number }): number {
  return ENVELOPE_BYTES + vectors.count * vectorBytes(vectors.embeddingLength);
}

/** How many vectors of this length fit a frame. */
export function vectorsPerFrame(frame: { readonly bytesMax: number; readonly embeddingLength: number }): number {
  return Math.max(0, Math.floor((frame.bytesMax - ENVELOPE_BYTES) / vectorBytes(frame.embeddingLength)));
}

function vectorBytes(embeddingLength: number): number {
  return 4 * Math.ceil((embeddingLength * FLOAT_BYTES) / 3) + AROUND_VECTOR_BYTES;
}
