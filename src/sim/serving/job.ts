/** One request on its way through the simulated cluster. Its passes go from the coordinator through its way and back: one for the prompt, then one for each token. */
import type { RouteRequest } from "../../scheduler/routing/router.ts";

export interface Job extends RouteRequest {
  readonly id: number;
  readonly promptTokens: number;
  readonly outputTokens: number;
  readonly arrivedS: number;
  phase: "prompt" | "decode";
  /** Tokens of this pass: the prompt and, after a restart, what was produced before; 1 when decoding. */
  passTokens: number;
  /** Tokens whose KV lies along the way once the pass is through. */
  contextTokens: number;
  produced: number;
  /** Edges; it grows hop by hop under routers that plan so. */
  way: number[];
  /** Index in `way` of the edge that it travels or whose end it is at. */
  hop: number;
  /** KV held at the end of each edge of the way, tokens x layers. */
  kvHeld: number[];
  issuedS: number;
  /** When sending on the current edge began. */
  sentS: number;
  /** Counts restarts; what is under way with an older one is void. */
  epoch: number;
}

export function newJob(id: number, arrivedS: number, lengths: { promptTokens: number; outputTokens: number }): Job {
  return {
    id,
    promptTokens: lengths.promptTokens,
    outputTokens: lengths.outputTokens,
    arrivedS,
    phase: "prompt",
    passTokens: lengths.promptTokens,
    contextTokens: 0,
    produced: 0,
    way: [],
    hop: 0,
    kvHeld: [],
    issuedS: arrivedS,
    sentS: arrivedS,
    epoch: 0,
  };
}
