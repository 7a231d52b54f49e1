/**
 * Packets between hosts, as a bad network carries them: late, lost, twice, out of order, or not at all for a while.
 *
 * Each direction between two hosts is a path with its own partition, clog and bandwidth, so that a partition may be
 * asymmetric. A packet's delay is the minimum plus an exponential tail, drawn for each packet, so packets overtake each
 * other. A clogged path holds its packets and lets them go when the clog ends; a cut path loses them.
 */
import { assert } from "../../domain/assert.ts";
import type { SeededRandom } from "../time/random.ts";
import type { Timeline } from "../time/timeline.ts";

export interface NetworkConditions {
  readonly delayMinMs: number;
  /** Mean of what comes on top of the minimum. */
  readonly delayTailMeanMs: number;
  readonly lossProbability: number;
  readonly replayProbability: number;
  /** Of one path; 12,500 is 100 Mbit/s. */
  readonly bytesPerMs: number;
}

export const CALM_NETWORK: NetworkConditions = {
  delayMinMs: 0.2,
  delayTailMeanMs: 0.1,
  lossProbability: 0,
  replayProbability: 0,
  bytesPerMs: 125_000,
};

/** Packets in flight on one path: a router's queue. What comes on top is lost, and sent again by the link. */
export const PATH_PACKETS_MAX = 512;

interface Path {
  readonly random: SeededRandom;
  readonly distanceMs: number;
  isCut: boolean;
  cloggedUntilMs: number;
  /** When the wire has put out everything that was sent so far. */
  freeAtMs: number;
  inFlight: number;
}

export interface NetworkStats {
  sent: number;
  lost: number;
  replayed: number;
}

export class PacketNetwork {
  readonly stats: NetworkStats = { sent: 0, lost: 0, replayed: 0 };
  readonly #timeline: Timeline;
  readonly #random: SeededRandom;
  readonly #paths = new Map<string, Path>();
  #conditions: NetworkConditions;
  readonly #distanceMs: (from: string, to: string) => number;

  /** `distanceMs`: one way, on top of the conditions; none by default. */
  constructor(options: {
    timeline: Timeline;
    random: SeededRandom;
    conditions: NetworkConditions;
    distanceMs?: (from: string, to: string) => number;
  }) {
    this.#timeline = options.timeline;
    this.#random = options.random;
    this.#conditions = options.conditions;
    this.#distanceMs = options.distanceMs ?? (() => 0);
  }

  /** The time before which no packet of now arrives, for who waits on an answer. */
  get conditions(): NetworkConditions {
    return this.#conditions;
  }

  changeConditions(conditions: NetworkConditions): void {
    this.#conditions = conditions;
  }

  /** `arrive` is called never, once or twice. */
  send(packet: { from: string; to: string; bytes: number; arrive: () => void }): void {
    const path = this.#path(packet.from, packet.to);
    const { lossProbability, replayProbability, bytesPerMs } = this.#conditions;
    this.stats.sent += 1;
    const isLost = path.random.chance(lossProbability);
    if (path.isCut || isLost || path.inFlight >= PATH_PACKETS_MAX) {
      this.stats.lost += 1;
      return;
    }
    path.freeAtMs = Math.max(path.freeAtMs, this.#timeline.nowMs) + packet.bytes / bytesPerMs;
    this.#deliver(path, packet.arrive);
    if (!path.random.chance(replayProbability)) return;
    this.stats.replayed += 1;
    this.#deliver(path, packet.arrive);
  }

  /** Nothing passes in this direction until `heal`. What is in flight is lost too. */
  cut(from: string, to: string): void {
    this.#path(from, to).isCut = true;
  }

  clog(from: string, to: string, untilMs: number): void {
    const path = this.#path(from, to);
    path.cloggedUntilMs = Math.max(path.cloggedUntilMs, untilMs);
  }

  heal(from: string, to: string): void {
    const path = this.#path(from, to);
    path.isCut = false;
    path.cloggedUntilMs = 0;
  }

  healAll(): void {
    for (const path of this.#paths.values()) {
      path.isCut = false;
      path.cloggedUntilMs = 0;
    }
  }

  isCut(from: string, to: string): boolean {
    return this.#path(from, to).isCut;
  }

  #deliver(path: Path, arrive: () => void): void {
    const { delayMinMs, delayTailMeanMs } = this.#conditions;
    const delayMs = delayMinMs + (delayTailMeanMs > 0 ? path.random.gap(delayTailMeanMs) : 0);
    const atMs = Math.max(path.freeAtMs, path.cloggedUntilMs) + path.distanceMs + delayMs;
    path.inFlight += 1;
    const land = () => {
      path.inFlight -= 1;
      assert(path.inFlight >= 0, "a path has no fewer than zero packets");
      if (path.isCut) this.stats.lost += 1;
      else arrive();
    };
    this.#timeline.at(atMs, land, { isQuiet: true });
  }

  #path(from: string, to: string): Path {
    const name = `${from}>${to}`;
    let path = this.#paths.get(name);
    if (path === undefined) {
      const distanceMs = this.#distanceMs(from, to);
      path = { random: this.#random.fork(name), distanceMs, isCut: false, cloggedUntilMs: 0, freeAtMs: 0, inFlight: 0 };
      this.#paths.set(name, path);
    }
    return path;
  }
}
