/**
 * The proof of replay: SHA-256 over every frame that a process received, with its time, and over every outcome. Two runs of
 * one seed on one commit have the same hash, or something in the process is not ours.
 */
import { createHash } from "node:crypto";
import type { Observation } from "./observation.ts";

/** Lines that a verbose run keeps; the newest are what explains a failure. */
export const TRACE_LINES_MAX = 200_000;

export class Trace {
  readonly #hash = createHash("sha256");
  readonly #lines: string[] = [];
  readonly #detail: "none" | "short" | "full";
  #frames = 0;

  constructor(detail: "none" | "short" | "full") {
    this.#detail = detail;
  }

  /** False when nobody reads the lines. */
  get isKept(): boolean {
    return this.#detail !== "none";
  }

  get isFull(): boolean {
    return this.#detail === "full";
  }

  get frames(): number {
    return this.#frames;
  }

  frame(at: { nowMs: number; from: string; to: string; text: string }): void {
    this.#frames += 1;
    const line = `${at.nowMs} ${at.from}>${at.to} ${at.text}`;
    this.#hash.update(line).update("\n");
    if (this.#detail === "full") this.#keep(line);
  }

  /** What passes between nodes: in the hash, and told by its length. */
  bytes(at: { nowMs: number; from: string; to: string; text: string }): void {
    this.#frames += 1;
    this.#hash.update(`${at.nowMs} ${at.from}>${at.to} `).update(at.text, "latin1").update("\n");
  }

  observe(observation: Observation, nowMs: number): void {
    const line = describe(observation);
    if (line === null) return;
    this.#hash.update(`${nowMs} ${line}\n`);
    if (this.#detail === "full" || (this.#detail === "short" && isTransition(observation))) {
      this.#keep(`${nowMs.toFixed(3)} ${line}`);
    }
  }

  /** Log events of the code under test: in the lines, not in the hash. */
  log(nowMs: number, line: string): void {
    if (this.#detail !== "none") this.#keep(`${nowMs.toFixed(3)} ${line}`);
  }

  lines(): readonly string[] {
    return this.#lines;
  }

  /** Of everything so far; ends the trace. */
  digest(): string {
    return this.#hash.digest("hex");
  }

  #keep(line: string): void {
    if (this.#lines.length >= TRACE_LINES_MAX) this.#lines.splice(0, TRACE_LINES_MAX / 10);
    this.#lines.push(line);
  }
}

/** Frames are traced where they arrive; here is everything else. */
function describe(observation: Observation): string | null {
  switch (observation.kind) {
    case "order":
    case "message":
      return null;
    case "asked":
    case "accepted":
      return `${observation.kind} ${observation.request.terms.requestId} of ${observation.request.terms.modelId}`;
    case "embedded":
      return `${observation.vectors === null ? "not embedded" : "embedded"} ${observation.requestId}`;
    case "transfers":
      return `transfers ${observation.transfers.map((one) => `${one.transferId}=${one.amountMicroUsd}`).join(" ")}`;
    default:
      return JSON.stringify(observation);
  }
}

function isTransition(observation: Observation): boolean {
  if (observation.kind === "generation") return observation.event.kind !== "tokens";
  if (observation.kind === "engine") return observation.change.to !== "busier" && observation.change.to !== "idler";
  return observation.kind !== "transfers" && observation.kind !== "settled";
}
