/**
 * One direction of a link: a bottleneck with a bounded queue, then a delay. Each packet may be lost; if not, it waits until
 * those before it have left at the link's rate, or is dropped where the queue is full; then it travels for the delay.
 * Losses are drawn from a seed of the direction's own, so the same packets in the same order lose the same ones.
 */
import type { DirectionCounters } from "../emulator-messages.ts";
import type { LinkShape } from "../link-shape.ts";
import { PacketFifo } from "./packet-pool.ts";

const BYTES_PER_MS_PER_MBIT = 125;
const BYTES_PER_KB = 1_000;

export interface OneWayShape {
  readonly delayMs: number;
  readonly jitterMs: number;
  readonly lossShare: number;
  readonly burst: LinkShape["burst"];
  readonly rateMbit: number | null;
  readonly queueKb: number;
}

export function shapeOf(shape: LinkShape, way: "up" | "down"): OneWayShape {
  const { delayMs, jitterMs, burst, queueKb } = shape;
  const common = { delayMs, jitterMs, burst, queueKb };
  return way === "up"
    ? { ...common, lossShare: shape.lossShareUp, rateMbit: shape.rateMbitUp }
    : { ...common, lossShare: shape.lossShareDown, rateMbit: shape.rateMbitDown };
}

export class OneWay {
  readonly fifo: PacketFifo = new PacketFifo();
  readonly counters: DirectionCounters = {
    packets: 0,
    bytes: 0,
    lostPackets: 0,
    queueDroppedPackets: 0,
    refusedPackets: 0,
  };
  #shape: OneWayShape;
  readonly #draw: () => number;
  /** When the last admitted packet has left the bottleneck. */
  #idleAtMs = 0;
  #lastDueMs = 0;
  #isInBurst = false;

  constructor(shape: OneWayShape, seed: number) {
    this.#shape = shape;
    this.#draw = seededDraw(seed);
  }

  set shape(shape: OneWayShape) {
    this.#shape = shape;
  }

  /** Takes a packet that arrives at this time, or says that it is dropped. */
  admit(packet: { readonly slot: number; readonly bytes: number; readonly atMs: number }): boolean {
    const { delayMs, jitterMs, rateMbit, queueKb } = this.#shape;
    if (this.#isLost()) {
      this.counters.lostPackets++;
      return false;
    }
    const bytesPerMs = rateMbit === null ? Number.POSITIVE_INFINITY : rateMbit * BYTES_PER_MS_PER_MBIT;
    const startMs = Math.max(this.#idleAtMs, packet.atMs);
    const waitMs = startMs - packet.atMs;
    // With no rate nothing waits, also when the rate was taken off while a queue stood.
    const queuedBytes = rateMbit === null ? 0 : waitMs * bytesPerMs;
    if (queuedBytes + packet.bytes > queueKb * BYTES_PER_KB) {
      this.counters.queueDroppedPackets++;
      return false;
    }
    this.#idleAtMs = (rateMbit === null ? packet.atMs : startMs) + packet.bytes / bytesPerMs;
    const jitter = jitterMs === 0 ? 0 : this.#draw() * jitterMs;
    this.#lastDueMs = Math.max(this.#lastDueMs, this.#idleAtMs + delayMs + jitter);
    this.fifo.push(packet.slot, this.#lastDueMs);
    return true;
  }

  #isLost(): boolean {
    const { lossShare, burst } = this.#shape;
    const isLostAlone = lossShare > 0 && this.#draw() < lossShare;
    if (burst === null) return isLostAlone;
    const draw = this.#draw();
    this.#isInBurst = this.#isInBurst ? draw >= burst.leaveShare : draw < burst.enterShare;
    return (this.#isInBurst && this.#draw() < burst.lossShare) || isLostAlone;
  }
}

/** Uniform draws from 0 to below 1: mulberry32, which passes the usual tests for 2^32 draws. */
function seededDraw(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b_79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
