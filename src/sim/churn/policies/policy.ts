/**
 * What the simulated grid asks of a policy: which stages each machine shall hold, and the way of a request through what is ready.
 * A policy sees what a coordinator sees (who is up since when, what is loaded where, what was asked for), never what is to come.
 */
import type { ServiceTier } from "../../../domain/tier.ts";
import type { GridNode, Hop, Running, StagePlan } from "../grid/grid-parts.ts";
import type { Scenario } from "../scenario/scenario.ts";

export interface ModelDemand {
  /** Requests and output tokens a second, as an average that fades over `DEMAND_FADE_MS`. */
  readonly requestsPerSecond: number;
  readonly outputTokensPerSecond: number;
  readonly promptTokensMean: number;
  readonly outputTokensMean: number;
  /** Shares of the requests by tier; sum to 1 once something was asked. */
  readonly tierShares: Readonly<Record<ServiceTier, number>>;
  /** Requests that wait at this moment. */
  readonly waiting: number;
}

export interface GridFacts {
  readonly nowMs: number;
  readonly scenario: Scenario;
  /** All machines, those that are away too. */
  readonly nodes: readonly GridNode[];
  /** By model. */
  demand(): readonly ModelDemand[];
}

export type PlanCause =
  | { readonly kind: "tick" }
  | { readonly kind: "joined"; readonly node: GridNode }
  | { readonly kind: "lost"; readonly node: GridNode };

export interface ChurnPolicy {
  /** After a loss only the lost stages' keys and values are computed again (Petals' client keeps what it sent), not the whole chain's. */
  readonly replaysLostStagesOnly: boolean;
  readonly planEveryMs: number;
  /** From a change of the grid to the plan that answers it. */
  readonly planDelayMs: number;
  /** Comings and goings, those of the history first, in order of time. */
  observe(node: GridNode, transition: "up" | "left", atMs: number): void;
  /** What machines shall hold, by index; those that are absent keep what they hold. */
  plan(facts: GridFacts, cause: PlanCause): ReadonlyMap<number, readonly StagePlan[]>;
  /** A way through ready stages with room, or null. */
  route(running: Running, facts: GridFacts): readonly Hop[] | null;
}
