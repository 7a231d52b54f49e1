/** What the ends of a chain hold of a model, from its manifest: the planner's sizes of stages. */
import type { WeightsManifest } from "../../domain/weights.ts";
import type { EndBytes } from "../../scheduler/placement/plan-question.ts";
import { bytesOfParts } from "../../weights/weights-parts.ts";

export function endBytesOf({ parts }: Pick<WeightsManifest, "parts">): EndBytes {
  const embedding = parts.filter(({ kind }) => kind === "embedding");
  const embeddingBytes = bytesOfParts(embedding);
  const isTied = embedding.some(({ isOutputToo }) => isOutputToo === true);
  const ownOutput = bytesOfParts(parts.filter(({ kind }) => kind === "output"));
  return {
    embeddingBytes,
    outputBytes: ownOutput + (isTied ? embeddingBytes : 0),
    layersBytes: bytesOfParts(parts.filter(({ kind }) => kind === "layer")),
  };
}
