/** Whether a model may be run as a chain of stages: only architectures and sizes that were shown to give the same output in stages are. */
import type { ModelManifest } from "../../domain/model.ts";
import { canBeCut } from "../../weights/stage-architectures.ts";

export function canSplit({ architecture, layerCount }: Pick<ModelManifest, "architecture" | "layerCount">): boolean {
  return canBeCut({ architecture, layerCount });
}
