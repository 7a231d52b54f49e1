/**
 * The planner's orders to bring weights in ahead of need, one at a time.
 *
 * | event            | what runs                   | what waits           | what the planner wants                      |
 * | ---------------- | --------------------------- | -------------------- | ------------------------------------------- |
 * | order            | it, when nothing else does  | it otherwise         | –                                           |
 * | it came          | the next                    | –                    | it, until a load used it                    |
 * | everything else comes first | is aborted       | nothing any more     | –                                           |
 */
import type { WeightsStage } from "../../wire/agent-link.ts";

export interface StagingOrdersPorts {
  /** There is a session to fetch in. */
  mayRun(): boolean;
  /** Never rejects. */
  bring(order: WeightsStage, signal: AbortSignal): Promise<void>;
  /** What runs is another. */
  onChange(): void;
}

/** Orders that wait for the one that runs; the coordinator gives one at a time. */
const WAITING_MAX = 8;
/** Copies that are kept for the planner; the one it asked for longest ago is like any other then. */
const WANTED_MAX = 32;

export class StagingOrders {
  readonly #ports: StagingOrdersPorts;
  readonly #waiting = new Map<string, WeightsStage>();
  /** Digests; the one asked for last is last. */
  readonly #wanted = new Set<string>();
  #running: { readonly order: WeightsStage; readonly abort: AbortController } | null = null;

  constructor(ports: StagingOrdersPorts) {
    this.#ports = ports;
  }

  get running(): WeightsStage | null {
    return this.#running?.order ?? null;
  }

  add(order: WeightsStage): void {
    const { weightsSha256 } = order;
    if (this.running?.weightsSha256 === weightsSha256 || this.#waiting.size >= WAITING_MAX) this.#ports.onChange();
    else {
      this.#waiting.set(weightsSha256, order);
      this.#next();
    }
  }

  giveWay(weightsSha256: string | null): void {
    this.#waiting.clear();
    if (this.#running !== null && this.#running.order.weightsSha256 !== weightsSha256) this.#running.abort.abort();
  }

  /** The copy is here, for a use that is still to come. */
  wants(weightsSha256: string): void {
    this.#wanted.delete(weightsSha256);
    this.#wanted.add(weightsSha256);
    const [oldest] = this.#wanted;
    if (this.#wanted.size > WANTED_MAX && oldest !== undefined) this.#wanted.delete(oldest);
  }

  /** A load used the copy: from here on it stays by its use. */
  used(weightsSha256: string): void {
    this.#wanted.delete(weightsSha256);
  }

  wanted(): ReadonlySet<string> {
    return this.#wanted;
  }

  #next(): void {
    if (this.#running !== null) return;
    const [order] = this.#waiting.values();
    if (order === undefined || !this.#ports.mayRun()) return;
    this.#waiting.delete(order.weightsSha256);
    const abort = new AbortController();
    this.#running = { order, abort };
    void this.#ports.bring(order, abort.signal).finally(() => {
      this.#running = null;
      this.#ports.onChange();
      this.#next();
    });
  }
}
