/** What the legs of one request share. */
import type { Dispatch } from "../../../domain/generation.ts";
import type { ModelId, RequestId } from "../../../domain/ids.ts";
import type { Clock } from "../../../ports/clock.ts";
import type { Cloud } from "../../../ports/cloud.ts";
import type { Log } from "../../../ports/log.ts";
import type { RouteCandidate } from "../../../scheduler/tiers/route-question.ts";
import type { CloudRecipe } from "./cloud-recipe.ts";
import type { LegMetrics } from "./leg-metrics.ts";
import type { RanLeg } from "./ran-leg.ts";

export interface LegPorts {
  readonly clock: Clock;
  readonly dispatch: Pick<Dispatch, "generate">;
  readonly cloud: Cloud;
  readonly log: Log;
  readonly metrics: LegMetrics;
}

export interface LegContext {
  readonly ports: LegPorts;
  readonly requestId: RequestId;
  readonly modelId: ModelId;
  readonly candidates: readonly RouteCandidate[];
  readonly recipe: CloudRecipe;
  /** Text and tokens of the model; null where the grid has no vocabulary of it. */
  readonly words: ModelWords | null;
  /** It also moves to the next resource when the grid's first token does not come in this time; null: it waits. */
  readonly lateAfterMs: number | null;
  readonly promptTokensLikely: number;
  /** Nobody sees any of it before its end, and it is short: providers may send it in one body. */
  readonly isWhole: boolean;
  /** Monotonic. */
  readonly deadlineAtMs: number;
  /** The leg that gave the request's first output: it pays for the prompt. */
  first: RanLeg | null;
}

export interface ModelWords {
  /** As the answer's text shows it; nothing for an end token. */
  bytesOf(tokenId: number): Uint8Array;
  tokenize(text: string): Promise<readonly number[]>;
  /** It spells a control token, or part of one at its ends: in a raw prompt it would become one. */
  hasControlText(text: string): boolean;
}
