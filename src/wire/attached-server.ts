/** What a node tells of a server that it lends as an engine. */
import { z } from "zod";
import { ATTACHED_KINDS, ATTACHED_MODELS_MAX, ENGINE_ABILITIES } from "../domain/attached-engine.ts";
import { modelId, WIRE_BOUNDS } from "./link-atoms.ts";

export const attachedServerSchema = z.object({
  kind: z.enum(ATTACHED_KINDS),
  version: z.string().max(128),
  isExact: z.boolean(),
  models: z
    .array(
      z.object({
        modelId,
        servedAs: z.string().max(512),
        contextTokens: z.number().int().min(8).max(WIRE_BOUNDS.tokensPerPromptMax).nullable(),
        sequencesMax: z.number().int().min(1).max(256),
      }),
    )
    .max(ATTACHED_MODELS_MAX)
    .readonly(),
});

export const lacksSchema = z.array(z.enum(ENGINE_ABILITIES)).max(ENGINE_ABILITIES.length);
