/**
 * A server that a node's owner runs already (vLLM, Ollama …) and lends to the grid as an engine. It holds models of its own in memory of its
 * own, so nothing is planned for it: what it offers is taken as it is. It may lack what our engine can; a request goes only where nothing that
 * it needs is lacking.
 */
import type { SamplingOptions } from "./sampling.ts";

export const ATTACHED_KINDS = ["vllm", "sglang", "llama-server", "ollama", "lmstudio", "tgi"] as const;
export type AttachedKind = (typeof ATTACHED_KINDS)[number];

/** What a request may need beyond plain text at some temperature. Our own engine can all of it. */
export const ENGINE_ABILITIES = [
  "grammar",
  /** Goes on in the middle of a text that a grammar rules: servers begin a grammar at its root. */
  "grammar-resume",
  "logit-bias",
  "logprobs",
  "penalties",
  "ignore-stop-tokens",
  "embeddings",
] as const;
export type EngineAbility = (typeof ENGINE_ABILITIES)[number];

/** A node has at most one, on this device of its own with no memory that could be planned. */
export const ATTACHED_DEVICE_ID = "attached0";
/** Models that one server offers. */
export const ATTACHED_MODELS_MAX = 64;

export interface AttachedServer {
  readonly kind: AttachedKind;
  readonly version: string;
  /** It takes and gives token ids; else text, that the node tokenises. */
  readonly isExact: boolean;
  readonly models: readonly AttachedModel[];
}

export interface AttachedModel {
  /** As the grid would name it; only a model of the catalogue is ever asked of it. */
  readonly modelId: string;
  /** As the server names it. */
  readonly servedAs: string;
  /** Of one sequence; null when the server does not tell: the model's own. */
  readonly contextTokens: number | null;
  /** Sequences at the same time. */
  readonly sequencesMax: number;
}

export interface AbilityQuestion {
  readonly grammar: string | null;
  readonly generatedCount: number;
  readonly sampling: Pick<SamplingOptions, "logitBias" | "frequencyPenalty" | "presencePenalty">;
  readonly topLogprobs: number | null;
  readonly ignoreStopTokens: boolean;
}

/** In the order of `ENGINE_ABILITIES`. */
export function abilitiesNeeded(asked: AbilityQuestion): readonly EngineAbility[] {
  const { sampling } = asked;
  const needed: EngineAbility[] = [];
  if (asked.grammar !== null) needed.push("grammar");
  if (asked.grammar !== null && asked.generatedCount > 0) needed.push("grammar-resume");
  if (sampling.logitBias.length > 0) needed.push("logit-bias");
  if (asked.topLogprobs !== null) needed.push("logprobs");
  if (sampling.frequencyPenalty !== 0 || sampling.presencePenalty !== 0) needed.push("penalties");
  if (asked.ignoreStopTokens) needed.push("ignore-stop-tokens");
  return needed;
}
