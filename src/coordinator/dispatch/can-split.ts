/** Whether a model may be run as a chain of stages: only architectures that were shown to give the same output in stages are. */
import type { ModelManifest } from "../../domain/model.ts";
import { STAGE_ARCHITECTURES } from "../../weights/stage-architectures.ts";

export function canSplit({ architecture }: Pick<ModelManifest, "architecture">): boolean {
  return STAGE_ARCHITECTURES.has(architecture);
}
