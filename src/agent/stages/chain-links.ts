/**
 * A stage's links to its neighbours in one epoch of its chain: it dials the next stage (the last one: the first), and the one before dials it. Each
 * channel begins with a hello of both ends; from then on silence is a fault while anything runs.
 *
 * | state of a neighbour | hello in time | frame is wrong    | silent, link gone | new epoch |
 * | -------------------- | ------------- | ----------------- | ----------------- | --------- |
 * | awaited              | heard         | given up          | given up          | gone      |
 * | heard                | -             | given up          | given up          | gone      |
 * | given up             | ignored       | ignored           | ignored           | gone      |
 *
 * Giving up is told once (`onTrouble`); what becomes of it is the coordinator's to say, with the next epoch.
 */
import { describeFault, FallowError } from "../../domain/fault.ts";
import { nodeId } from "../../domain/ids.ts";
import { type Clock, pause, type Timer } from "../../ports/clock.ts";
import type { Log } from "../../ports/log.ts";
import type { PeerLink, PeerNetwork } from "../../ports/peer-link.ts";
import type { ChainSet, ChainTrouble } from "../../wire/chain-link.ts";
import { type StageFrame, stageChannel } from "../../wire/stage-frames.ts";
import { Neighbour } from "./neighbour.ts";
import type { PeerGaps } from "./peer-gaps.ts";
import { LINK_RETRY_MS_MAX, LINK_RETRY_MS_MIN, LINKING_MS, PULSE_MS, SILENT_MS, STALL_MS } from "./stage-bounds.ts";
import type { StageWire, WireProblem } from "./stage-wire.ts";

export interface ChainLinksPorts {
  readonly clock: Clock;
  readonly log: Log;
  readonly network: Pick<PeerNetwork, "connect" | "open">;
  readonly gaps: PeerGaps;
  /** Elements of a hidden state; null while there is no engine: then nobody is greeted. */
  embeddingLength(): number | null;
  /** What this stage surely holds. */
  holdings(): readonly { readonly sequence: HeldSequence; readonly held: number }[];
  isBusy(): boolean;
  /** The next stage is there; what it holds. */
  onNext(wire: StageWire, holdings: readonly { readonly sequence: HeldSequence; readonly held: number }[]): void;
  /** Of a neighbour that was heard, the number being right. Answers with what is wrong with it. */
  onFrame(frame: StageFrame, side: Side): WireProblem | null;
  onTrouble(trouble: Pick<ChainTrouble, "kind" | "code" | "message"> & { readonly accused: string }): void;
  /** `isLinked` changed. */
  onChange(): void;
}

type HeldSequence = Extract<StageFrame, { type: "hello" }>["holdings"][number]["sequence"];
/** Where a frame came from. */
export type Side = "next" | "previous";

export class ChainLinks {
  readonly set: ChainSet;
  /** In the chain. */
  readonly index: number;
  readonly #ports: ChainLinksPorts;
  readonly #next: Neighbour;
  readonly #previous: Neighbour;
  readonly #life = new AbortController();
  readonly #earlyHellos = new Map<Neighbour, { readonly frame: StageFrame; readonly link: PeerLink }>();
  #begunAtMs: number;
  #timer: Timer | null = null;
  #tickedAtMs: number;
  #wasBusy = false;
  #wasLinked = false;
  #isBegun = false;

  constructor(set: ChainSet, index: number, ports: ChainLinksPorts) {
    this.set = set;
    this.index = index;
    this.#ports = ports;
    const count = set.stages.length;
    this.#next = this.#neighbour((index + 1) % count, index);
    this.#previous = this.#neighbour((index + count - 1) % count, (index + count - 1) % count);
    this.#begunAtMs = ports.clock.monoMs();
    this.#tickedAtMs = this.#begunAtMs;
  }

  get isFirst(): boolean {
    return this.index === 0;
  }

  get isLast(): boolean {
    return this.index === this.set.stages.length - 1;
  }

  get isLinked(): boolean {
    return [this.#next, this.#previous].every(({ isHeard, isGivenUp }) => isHeard && !isGivenUp);
  }

  get next(): Neighbour {
    return this.#next;
  }

  get previous(): Neighbour {
    return this.#previous;
  }

  /** Channels on which this stage is spoken to. */
  get channels(): readonly number[] {
    return [this.#next.place.channel, this.#previous.place.channel];
  }

  /** Greets and is greeted from here on. May be called twice. */
  begin(): void {
    if (this.#isBegun || this.#ports.embeddingLength() === null) return;
    this.#isBegun = true;
    this.#begunAtMs = this.#ports.clock.monoMs();
    this.#tickedAtMs = this.#begunAtMs;
    for (const [, { frame, link }] of [...this.#earlyHellos]) this.receive(frame, link);
    this.#earlyHellos.clear();
    void this.#dial();
    this.#schedule();
  }

  stop(): void {
    this.#life.abort(new Error("the chain changed"));
    this.#timer?.cancel();
    this.#next.detach();
    this.#previous.detach();
  }

  /** A frame of one of `channels`, in this epoch. */
  receive(frame: StageFrame, link: PeerLink): void {
    const side = frame.channel === this.#next.place.channel ? "next" : "previous";
    const neighbour = side === "next" ? this.#next : this.#previous;
    if (neighbour.isGivenUp || link.peerKeyHex !== neighbour.place.stage.publicKey) return;
    if (frame.type === "hello") {
      if (this.#isBegun) this.#onHello(frame, { link, neighbour, side });
      else this.#earlyHellos.set(neighbour, { frame, link });
      return;
    }
    if (neighbour.wire?.link !== link) return;
    const nowMs = this.#ports.clock.monoMs();
    const problem =
      neighbour.take(frame, nowMs) ??
      (neighbour.isHeard ? null : { code: "frame-unexpected", message: `a ${frame.type} frame before any hello` });
    if (problem !== null) this.breach(neighbour, problem);
    else if (frame.type === "pulse") neighbour.onPulse(frame, nowMs);
    else {
      const wrong = this.#ports.onFrame(frame, side);
      if (wrong !== null) this.breach(neighbour, wrong);
    }
  }

  /** A frame of an older epoch: nothing, when it was sent before the neighbour knew this one. */
  receiveOld(frame: StageFrame, link: PeerLink): void {
    const neighbour = frame.channel === this.#next.place.channel ? this.#next : this.#previous;
    if (neighbour.wire?.link !== link || !neighbour.isHeard) return;
    const message = `a ${frame.type} frame of epoch ${frame.chainEpoch} after a hello of ${this.set.chainEpoch}`;
    this.breach(neighbour, { code: "epoch-older", message });
  }

  /** Bytes on a neighbour's channel that are no frame. */
  receiveBroken(
    problem: { readonly channel: number; readonly code: string; readonly message: string },
    link: PeerLink,
  ) {
    const neighbour = problem.channel === this.#next.place.channel ? this.#next : this.#previous;
    if (neighbour.wire?.link === link) this.breach(neighbour, problem);
  }

  breach(neighbour: Neighbour, { code, message, kind }: WireProblem): void {
    this.#giveUp(neighbour, { kind: kind ?? "stage-breach", code, message });
  }

  /** Something began or ended to run: silence counts from here on, and pulses go out. */
  look(): void {
    if (!this.#isBegun || this.#life.signal.aborted || this.#ports.isBusy() === this.#wasBusy) return;
    this.#timer?.cancel();
    this.#tick();
    this.#schedule();
  }

  // ---------------------------------------------------------------- within

  #neighbour(index: number, earlier: number): Neighbour {
    const stage = this.set.stages[index];
    if (stage === undefined) throw new Error(`stage ${index} of ${this.set.stages.length}`);
    const channel = stageChannel({ chainId: this.set.chainId, stage: earlier });
    return new Neighbour({ stage, index, channel, chainEpoch: this.set.chainEpoch }, this.#ports.gaps);
  }

  #onHello(
    hello: Extract<StageFrame, { type: "hello" }>,
    { link, neighbour, side }: { readonly link: PeerLink; readonly neighbour: Neighbour; readonly side: Side },
  ): void {
    const embeddingLength = this.#ports.embeddingLength() ?? 0;
    const isMine = neighbour.wire?.link === link;
    if (side === "next" && !isMine) return;
    if (side === "previous" && !(isMine && neighbour.isHeard)) {
      neighbour.attach(link, (reason) => this.#onLost(neighbour, reason));
    }
    const wire = neighbour.wire;
    const wasHeard = neighbour.isHeard;
    const problem =
      neighbour.take(hello, this.#ports.clock.monoMs()) ??
      (wasHeard ? { code: "frame-unexpected", message: "a second hello in one epoch" } : null) ??
      neighbour.onHello(hello, { chainId: this.set.chainId, embeddingLength });
    if (problem !== null || wire === null) {
      if (problem !== null) this.breach(neighbour, problem);
      return;
    }
    if (side === "previous") this.#sayHello(wire, this.isFirst ? [] : this.#ports.holdings());
    else this.#ports.onNext(wire, hello.holdings);
    this.#changed();
  }

  #sayHello(wire: StageWire, holdings: ReturnType<ChainLinksPorts["holdings"]>): void {
    const { chainId } = this.set;
    const embeddingLength = this.#ports.embeddingLength() ?? 0;
    wire.send({ type: "hello", chainId, stage: this.index, embeddingLength, holdings });
  }

  /** Until the next stage lets this one in: it may hear of the epoch later. Never rejects. */
  async #dial(): Promise<void> {
    const { signal } = this.#life;
    const { clock, network } = this.#ports;
    const { nodeId: name, publicKey, endpoints } = this.#next.place.stage;
    const target = { nodeId: nodeId(name), publicKeyHex: publicKey, endpoints };
    const credential = chainCredential(this.set);
    for (let waitMs = LINK_RETRY_MS_MIN; !signal.aborted; waitMs = Math.min(LINK_RETRY_MS_MAX, waitMs * 2)) {
      try {
        // Who may speak on it is known by the key that the link has proved.
        const open = network.open(publicKey);
        const isUsable = open !== null && open.carrier() !== null;
        const link = isUsable ? open : await network.connect(target, credential, signal);
        if (signal.aborted) return;
        this.#sayHello(
          this.#next.attach(link, (reason) => this.#onLost(this.#next, reason)),
          [],
        );
        return;
      } catch (fault) {
        const isRefused = fault instanceof FallowError && fault.code === "peer-refused";
        const tookMs = clock.monoMs() - this.#begunAtMs;
        if (!signal.aborted && tookMs > (isRefused ? LINKING_MS : SILENT_MS)) {
          return this.#giveUp(this.#next, {
            kind: "stage-unreachable",
            code: codeOf(fault),
            message: describeFault(fault),
          });
        }
        await pause(clock, waitMs, signal);
      }
    }
  }

  #onLost(neighbour: Neighbour, reason: string): void {
    if (this.#life.signal.aborted) return;
    const message = `the link to stage ${neighbour.place.index} ended: ${reason}`;
    this.#giveUp(neighbour, { kind: "stage-unreachable", code: "link-ended", message });
  }

  #giveUp(neighbour: Neighbour, why: Pick<ChainTrouble, "kind" | "code" | "message">): void {
    if (neighbour.isGivenUp || this.#life.signal.aborted) return;
    neighbour.isGivenUp = true;
    this.#ports.log.warn(
      { chainId: this.set.chainId, stage: this.index, accused: neighbour.place.index, ...why },
      "a stage is given up",
    );
    this.#ports.onTrouble({ ...why, accused: neighbour.place.stage.replicaId });
    this.#changed();
  }

  #changed(): void {
    if (this.isLinked === this.#wasLinked) return;
    this.#wasLinked = this.isLinked;
    this.#ports.onChange();
  }

  #schedule(): void {
    this.#timer = this.#ports.clock.setTimer(PULSE_MS / 2, () => {
      this.#tick();
      if (!this.#life.signal.aborted) this.#schedule();
    });
  }

  #tick(): void {
    const nowMs = this.#ports.clock.monoMs();
    const isStalled = nowMs - this.#tickedAtMs > PULSE_MS / 2 + STALL_MS;
    this.#tickedAtMs = nowMs;
    const isBusy = this.#ports.isBusy();
    const isCounted = isBusy && this.#wasBusy && !isStalled;
    this.#wasBusy = isBusy;
    for (const neighbour of [this.#next, this.#previous]) {
      if (neighbour.isGivenUp) continue;
      if (!neighbour.isHeard) this.#awaits(neighbour, nowMs);
      else if (!isBusy || !isCounted) {
        neighbour.forgiveSilence(nowMs);
        if (isBusy) neighbour.pulse(nowMs);
      } else if (neighbour.isSilent(nowMs)) {
        const message = `nothing from stage ${neighbour.place.index} for ${Math.round(neighbour.silentMs(nowMs))} ms`;
        this.#ports.gaps.forgive(neighbour.place.stage.publicKey, nowMs);
        this.#giveUp(neighbour, { kind: "stage-silent", code: "silent", message });
      } else neighbour.pulse(nowMs);
    }
  }

  #awaits(neighbour: Neighbour, nowMs: number): void {
    if (nowMs - this.#begunAtMs <= LINKING_MS) return;
    const kind = neighbour.wire === null ? "stage-unreachable" : "stage-silent";
    const message = `no hello of stage ${neighbour.place.index} within ${LINKING_MS} ms`;
    this.#giveUp(neighbour, { kind, code: "no-hello", message });
  }
}

/** What a stage shows to the node of its neighbour. */
export function chainCredential({ chainId, chainEpoch }: Pick<ChainSet, "chainId" | "chainEpoch">): string {
  return `chain:${chainId}:${chainEpoch}`;
}

function codeOf(fault: unknown): string {
  return fault instanceof FallowError ? fault.code : "link-failed";
}
