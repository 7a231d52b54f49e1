/** What a simulated grid is made of while it runs: machines, stages on them, requests on their way through stages. */

import type { SimModel } from "../policies/served-mix.ts";
import type { NodeDraw, RequestDraw } from "../scenario/scenario.ts";
import type { QueuedEvent } from "./event-queue.ts";

/**
 * | state    | layers fetched          | memory free, loaded | plan drops it                   | machine lost |
 * | -------- | ----------------------- | ------------------- | ------------------------------- | ------------ |
 * | fetching | waiting                 | -                   | gone                            | gone         |
 * | waiting  | -                       | loading             | gone                            | gone         |
 * | loading  | -                       | ready               | gone                            | gone         |
 * | ready    | -                       | -                   | leaving, gone once it is idle   | gone         |
 *
 * A stage that is `leaving` still serves until its memory is needed; from then on it takes no new request (`isClosed`).
 */
export type StageState = "fetching" | "waiting" | "loading" | "ready" | "gone";

/** A run of layers of one model. `end` is one past the last. */
export interface StagePlan {
  /** Index into the scenario's models. */
  readonly model: number;
  readonly first: number;
  readonly end: number;
  /** Weights and room for keys and values. */
  readonly memoryBytes: number;
}

/** What a request uses of a stage: all of its layers, or those from `first` on where stages overlap. */
export interface Hop {
  readonly stage: Stage;
  readonly first: number;
}

export function hopLayers({ stage, first }: Hop): number {
  return stage.end - first;
}

export interface Stage extends StagePlan {
  readonly number: number;
  readonly node: GridNode;
  readonly spec: SimModel;
  readonly weightsBytes: number;
  state: StageState;
  /** No longer in the plan. */
  isLeaving: boolean;
  /** Takes no new request: its memory is needed. */
  isClosed: boolean;
  readonly sequences: Set<Running>;
  /** KV room in tokens. */
  readonly kvTokensMax: number;
  kvTokens: number;
  /** Size for which its step time was computed last: a power of two, 0 when nothing runs. */
  bucket: number;
  lastUsedAtMs: number;
  readyAtMs: number;
}

export interface GridNode {
  readonly index: number;
  readonly draw: NodeDraw;
  isUp: boolean;
  upSinceMs: number;
  /** Counts comings: what was scheduled in an earlier life does not fire in a later one. */
  life: number;
  readonly stages: Stage[];
  /** Layers on disk by model, with two places more for embedding and head; when each model was used last. */
  readonly disk: Map<number, Uint8Array>;
  readonly diskUsedAtMs: Map<number, number>;
  /** When the prompts that were given to it so far are through. */
  prefillFreeAtMs: number;
  /** Its only transfer. */
  fetch: {
    readonly stage: Stage;
    readonly startMs: number;
    readonly bytes: number;
    readonly event: QueuedEvent;
  } | null;
  loading: Stage | null;
  /** Stages that decode something: they share the machine's time. */
  busyStages: number;
}

/** A request on its way. */
export interface Running {
  readonly number: number;
  readonly draw: RequestDraw;
  state: "waiting" | "prefilling" | "decoding" | "ended";
  /** Empty while it waits. */
  path: readonly Hop[];
  /** Hops that survived the last loss, for who replays only lost stages. */
  keptHops: readonly Hop[];
  /** Output tokens that the client has. */
  generated: number;
  firstTokenAtMs: number | null;
  /** Of the attempt that runs: from when on, how many tokens it had then, and how long one takes. */
  progressAtMs: number;
  tokenMs: number;
  troubles: number;
  /** May be given a path from then on: the loss must have been noticed. */
  readyAtMs: number;
  next: QueuedEvent | null;
  giveUp: QueuedEvent | null;
  wasCold: boolean;
  endedAtMs: number | null;
}
