/**
 * What the opening end of a link knows of each carrier: whether it answers, and what was measured of it, by the connections that it has there
 * and by those that it had. From this the carrier of the messages and those of bulk are chosen (scheduler/network/choose-carrier.ts), with each look.
 */
import type { CarrierKind, LinkQuality } from "../../domain/peer.ts";
import type { PeerCarrier } from "../../ports/peer-carrier.ts";
import {
  bulkCarriers,
  type CarrierChoice,
  type CarrierState,
  chooseCarrier,
  REMEASURE_MS,
} from "../../scheduler/network/choose-carrier.ts";
import type { ConnectionRole } from "../../wire/peer-frame-bytes.ts";
import { RATE_TRIAL_MS, REDIAL_MS_MAX, REDIAL_MS_MIN } from "./link-bounds.ts";
import type { LinkConnection } from "./link-connection.ts";
import { lossOf } from "./link-state.ts";
import { RateMeter } from "./rate-meter.ts";

/** A carrier's connections and what was measured over them. */
export class CarrierWatch {
  readonly carrier: PeerCarrier;
  readonly dialled: Record<ConnectionRole, number> = { message: 0, bulk: 0, spare: 0 };
  /** After a failure, while no connection answers: not before. */
  retryAtMs = 0;
  #failures = 0;
  #reach: CarrierState["reach"] = "untried";
  #sinceMs = 0;
  #quality: LinkQuality | null = null;
  #rate = new RateMeter();
  /** Since when bulk has been moving here without a pause; null: it does not. */
  #movingSinceMs: number | null = null;
  #rateSinceMs = 0;

  constructor(carrier: PeerCarrier) {
    this.carrier = carrier;
  }

  get kind(): CarrierKind {
    return this.carrier.kind;
  }

  onFailed(nowMs: number): void {
    this.#failures++;
    this.retryAtMs = nowMs + Math.min(REDIAL_MS_MAX, REDIAL_MS_MIN * 2 ** this.#failures);
    this.#goTo("failed", nowMs);
  }

  onOpened(nowMs: number): void {
    this.#failures = 0;
    this.retryAtMs = 0;
    this.#goTo("up", nowMs);
  }

  /** `moved`: bytes of bulk since the last look; `isBulkWanted`: there was more to move all the while. */
  look(
    live: readonly LinkConnection[],
    seen: {
      readonly nowMs: number;
      readonly moved: number;
      readonly isBulkWanted: boolean;
      readonly hasSilent: boolean;
    },
  ): void {
    const { nowMs } = seen;
    if (live.length > 0) this.#goTo("up", nowMs);
    else if (seen.hasSilent) this.#goTo("failed", nowMs);
    this.#lookAtRate(live, seen);
    const rtts = live.flatMap((connection) => connection.baseRttMs() ?? []);
    if (rtts.length === 0) return;
    this.#quality = {
      carrier: this.kind,
      rttMs: Math.min(...rtts),
      lossShare: lossOf(live),
      bytesPerSecond: this.#rate.highestPerSecond(),
      measuredAtMs: nowMs,
    };
  }

  state(isPossible: boolean): CarrierState {
    const { kind } = this;
    const [reach, failures, sinceMs, quality] = [this.#reach, this.#failures, this.#sinceMs, this.#quality];
    return { kind, reach, failures, sinceMs, quality, isPossible };
  }

  #goTo(reach: CarrierState["reach"], nowMs: number): void {
    if (this.#reach === reach) return;
    this.#reach = reach;
    this.#sinceMs = nowMs;
  }

  /** Only while more is wanted than comes, and after the start, does what comes tell what the carrier can bring. An old figure is forgotten. */
  #lookAtRate(
    live: readonly LinkConnection[],
    { nowMs, moved, isBulkWanted }: { readonly nowMs: number; readonly moved: number; readonly isBulkWanted: boolean },
  ): void {
    const isUsed = isBulkWanted && live.some(({ role }) => role === "bulk" || this.kind === "relay");
    if (!isUsed) {
      this.#movingSinceMs = null;
      if (nowMs - this.#rateSinceMs < REMEASURE_MS || this.#quality === null) return;
      this.#rate = new RateMeter();
      this.#quality = { ...this.#quality, bytesPerSecond: null };
      return;
    }
    this.#movingSinceMs ??= nowMs;
    if (nowMs - this.#movingSinceMs < RATE_TRIAL_MS) return;
    this.#rate.add(moved, nowMs);
    this.#rateSinceMs = nowMs;
  }
}

export interface CarrierChoices {
  /** Null: nothing answers. */
  readonly message: CarrierKind | null;
  readonly bulk: readonly CarrierKind[];
  /** To be dialled for a measurement now. */
  readonly due: readonly CarrierKind[];
}

/** The two choices, which stay as long as nothing is clearly better. */
export class CarrierChooser {
  #message: CarrierChoice | null = null;
  #bulk: CarrierChoice | null = null;

  choose(states: readonly CarrierState[], nowMs: number): CarrierChoices {
    const message = chooseCarrier("message", states, { nowMs, choice: this.#message });
    // The relay is metered: it carries bulk only where nothing else does.
    const direct = states.filter(({ kind, reach }) => kind !== "relay" && reach === "up");
    const bulk = chooseCarrier("bulk", direct.length > 0 ? direct : states, { nowMs, choice: this.#bulk });
    this.#message = message.choice;
    this.#bulk = bulk.choice;
    return {
      message: message.choice?.carrier ?? null,
      bulk: bulk.choice === null ? [] : bulkCarriers(states, bulk.choice.carrier),
      due: message.measure.filter(({ atMs }) => atMs <= nowMs).map(({ carrier }) => carrier),
    };
  }
}
