/** A stage's neighbour in one epoch: the channel to it, whether it said hello, and when it was heard last. */

import type { PeerLink } from "../../ports/peer-link.ts";
import type { ChainSet } from "../../wire/chain-link.ts";
import type { StageFrame } from "../../wire/stage-frames.ts";
import type { PeerGaps } from "./peer-gaps.ts";
import { PULSE_MS } from "./stage-bounds.ts";
import { type StageMessage, StageWire, type WireProblem } from "./stage-wire.ts";

type Hello = Extract<StageFrame, { type: "hello" }>;

export interface NeighbourPlace {
  readonly stage: ChainSet["stages"][number];
  /** In the chain. */
  readonly index: number;
  readonly channel: number;
  readonly chainEpoch: number;
}

export class Neighbour {
  readonly place: NeighbourPlace;
  /** It broke the protocol, or was given up: nothing of it counts in this epoch any more. */
  isGivenUp = false;
  /** Its hello came over this wire. */
  isHeard = false;
  rttMs: number | null = null;
  #wire: StageWire | null = null;
  #heardAtMs = 0;
  #pulsedAtMs = 0;
  readonly #gaps: PeerGaps;

  constructor(place: NeighbourPlace, gaps: PeerGaps) {
    this.place = place;
    this.#gaps = gaps;
  }

  get wire(): StageWire | null {
    return this.#wire;
  }

  /** A new wire over the link; the one before says no more. */
  attach(link: PeerLink, onLost: (reason: string) => void): StageWire {
    const { channel, chainEpoch } = this.place;
    this.#wire?.close();
    this.isHeard = false;
    const wire: StageWire = new StageWire({
      link,
      channel,
      chainEpoch,
      onLost: (reason) => {
        if (this.#wire === wire) onLost(reason);
      },
    });
    this.#wire = wire;
    void link.closed.then((reason) => {
      if (this.#wire === wire) onLost(reason);
    });
    return wire;
  }

  detach(): void {
    this.#wire?.close();
    this.#wire = null;
    this.isHeard = false;
  }

  send(message: StageMessage): void {
    if (!this.isGivenUp) this.#wire?.send(message);
  }

  /** Counts a frame as a sign of life. */
  take(frame: StageFrame, nowMs: number): WireProblem | null {
    this.#gaps.note(this.place.stage.publicKey, { gapMs: this.silentMs(nowMs), nowMs });
    this.#heardAtMs = nowMs;
    return this.#wire?.take(frame) ?? null;
  }

  onHello(hello: Hello, chain: { readonly chainId: string; readonly embeddingLength: number }): WireProblem | null {
    const { index } = this.place;
    if (hello.chainId !== chain.chainId || hello.stage !== index) {
      const message = `stage ${hello.stage} of chain ${hello.chainId}, stage ${index} of ${chain.chainId} is here`;
      return { code: "hello-wrong", message };
    }
    if (hello.embeddingLength !== chain.embeddingLength) {
      const message = `hidden states of ${hello.embeddingLength} elements, those of this model have ${chain.embeddingLength}`;
      return { code: "frame-width", message };
    }
    this.isHeard = true;
    return null;
  }

  onPulse({ sentAtMs, echoMs }: Extract<StageFrame, { type: "pulse" }>, nowMs: number): void {
    if (echoMs === null) this.send({ type: "pulse", sentAtMs: nowMs, echoMs: sentAtMs });
    else if (echoMs <= nowMs) this.rttMs = nowMs - echoMs;
  }

  /** Asks for a sign of life when the last time was `PULSE_MS` ago. */
  pulse(nowMs: number): void {
    if (nowMs - this.#pulsedAtMs < PULSE_MS) return;
    this.#pulsedAtMs = nowMs;
    this.send({ type: "pulse", sentAtMs: nowMs, echoMs: null });
  }

  silentMs(nowMs: number): number {
    return nowMs - this.#heardAtMs;
  }

  /** Silent for longer than it may be: the quicker it was always heard, the sooner. */
  isSilent(nowMs: number): boolean {
    return this.silentMs(nowMs) > this.#gaps.boundMs(this.place.stage.publicKey, nowMs);
  }

  /** Its silence counts from here on: nobody asked it before, or this machine stood still. */
  forgiveSilence(nowMs: number): void {
    this.#heardAtMs = nowMs;
  }
}
