import type { Clock } from "../../ports/clock.ts";
import { ExplainRing } from "./explain-ring.ts";

export interface MatchNews {
  readonly tookMs: number;
  /** Replicas that the search met. */
  readonly looked: number;
}

/** What the matcher tells of itself: explanations of late requests, and the cost of each decision to whoever listens. */
export class MatchLog {
  readonly explains: ExplainRing;
  readonly #listeners: ((news: MatchNews) => void)[] = [];

  constructor(clock: Clock) {
    this.explains = new ExplainRing(clock);
  }

  subscribe(listener: (news: MatchNews) => void): void {
    this.#listeners.push(listener);
  }

  matched(news: MatchNews): void {
    for (const listener of this.#listeners) listener(news);
  }
}
