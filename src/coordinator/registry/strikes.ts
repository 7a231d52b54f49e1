/**
 * Who broke the protocol, and for how long he is kept out.
 *
 * | event                               | effect                                                                   |
 * | ----------------------------------- | ------------------------------------------------------------------------ |
 * | breach (foreign lease, skipped seq) | counted; the third within 10 s is a strike                               |
 * | frame that is no message, flood     | a strike at once                                                         |
 * | strike                              | link closed; kept out for 1 s, 2 s, 4 s … up to 10 min                   |
 * | 30 min without a strike             | forgotten                                                                |
 *
 * One breach alone closes nothing: a chunk of a lease that was just cancelled crosses the order on its way.
 */
import type { NodeId } from "../../domain/ids.ts";
import { backoffCeilingMs } from "../../scheduler/retries/backoff.ts";

export const BREACHES_MAX = 3;
export const BREACH_WINDOW_MS = 10_000;
const KEPT_OUT = { baseMs: 1_000, capMs: 600_000 } as const;
const FORGOTTEN_AFTER_MS = 30 * 60_000;
/** Nodes with a record; the one whose last offence is oldest goes first. */
const RECORDS_MAX = 10_000;

interface OffenceRecord {
  readonly breachesAtMs: readonly number[];
  readonly strikes: number;
  readonly lastAtMs: number;
  readonly keptOutUntilMs: number;
}

export class Strikes {
  readonly #records = new Map<NodeId, OffenceRecord>();

  /** True when this breach was one too many and became a strike. */
  breach(nodeId: NodeId, nowMs: number): boolean {
    const record = this.#record(nodeId, nowMs);
    const breachesAtMs = [...record.breachesAtMs.filter((atMs) => nowMs - atMs < BREACH_WINDOW_MS), nowMs];
    if (breachesAtMs.length >= BREACHES_MAX) {
      this.strike(nodeId, nowMs);
      return true;
    }
    this.#keep(nodeId, { ...record, breachesAtMs, lastAtMs: nowMs });
    return false;
  }

  strike(nodeId: NodeId, nowMs: number): void {
    const strikes = this.#record(nodeId, nowMs).strikes + 1;
    const keptOutUntilMs = nowMs + backoffCeilingMs(strikes - 1, KEPT_OUT);
    this.#keep(nodeId, { breachesAtMs: [], strikes, lastAtMs: nowMs, keptOutUntilMs });
  }

  /** 0 when the node may come. */
  keptOutMs(nodeId: NodeId, nowMs: number): number {
    return Math.max(0, this.#record(nodeId, nowMs).keptOutUntilMs - nowMs);
  }

  #record(nodeId: NodeId, nowMs: number): OffenceRecord {
    const record = this.#records.get(nodeId);
    const isOld = record === undefined || nowMs - Math.max(record.lastAtMs, record.keptOutUntilMs) > FORGOTTEN_AFTER_MS;
    return isOld ? { breachesAtMs: [], strikes: 0, lastAtMs: nowMs, keptOutUntilMs: 0 } : record;
  }

  #keep(nodeId: NodeId, record: OffenceRecord): void {
    this.#records.delete(nodeId);
    this.#records.set(nodeId, record);
    const [oldest] = this.#records.keys();
    if (this.#records.size > RECORDS_MAX && oldest !== undefined) this.#records.delete(oldest);
  }
}
