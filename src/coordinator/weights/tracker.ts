/**
 * Who has which chunks, who wants them, and who brings what is missing from the source. Nodes tell (`weights.have`, `weights.want`,
 * `weights.claim`), the tracker answers with holders and grants, tells again when the picture changes, and forgets who is gone. What it says
 * is a hint; a chunk's digest and a grant's signature are what is believed. docs/weights.md has the rules in one place.
 */
import { areRunsValid, ChunkSet } from "../../domain/chunk-set.ts";
import { describeFault, FallowError } from "../../domain/fault.ts";
import { nodeId as asNodeId, type NodeId, type Sha256Hex, sha256Hex } from "../../domain/ids.ts";
import type { PeerEndpoints } from "../../domain/peer.ts";
import type { Timer } from "../../ports/clock.ts";
import type { PeerMessage } from "../roster.ts";
import { answerClaim, emptyClaim } from "./claim-answer.ts";
import { GrantBook, type GrantPorts } from "./grants.ts";
import { holdersMessage, isNameable, type NamingPorts } from "./holder-list.ts";
import { MessageBudget } from "./message-budget.ts";
import { NodeRights, type NodeRightsPorts } from "./node-rights.ts";
import { groupOf, PeerReports } from "./peer-reports.ts";
import { Swarm, tellAgain, type Want } from "./swarm.ts";
import { isPublic, type WeightsContents } from "./weights-content.ts";

type WeightsMessage = Extract<PeerMessage, { type: `weights.${string}` }>;
type Of<T extends PeerMessage["type"]> = Extract<PeerMessage, { type: T }>;

export interface WeightsTrackerPorts extends GrantPorts, NodeRightsPorts, Pick<NamingPorts, "roster" | "link" | "log"> {
  readonly contents: WeightsContents;
}

/** A node is told at most so often, and of many nodes each less often: their messages together stay bounded. */
export const TELL_MS = 500;
export const TELL_MS_PER_WANT = 5;
/** In one turn: a first answer with 32 grants takes four milliseconds, most of them for signatures, and streams must not wait for many. */
const TELLS_PER_TURN = 4;
const NEXT_TURN_MS = 20;
/** Not ordered, or unknown: asking again soon changes nothing. */
const RETRY_REFUSED_MS = 30_000;
/** Messages that wait for a manifest to be read, the last of each node and kind. */
const WAITING_MAX = 10_000;

export interface TrackerStats {
  readonly grants: number;
  readonly droppedMessages: number;
  /** Asked for weights that they were not told to have. */
  readonly notOrdered: number;
  readonly wants: number;
}

export class WeightsTracker {
  readonly reports = new PeerReports();
  readonly #ports: WeightsTrackerPorts;
  readonly #naming: NamingPorts;
  readonly #grants: GrantBook;
  readonly #rights: NodeRights;
  readonly #budget = new MessageBudget();
  readonly #endpoints = new Map<NodeId, PeerEndpoints>();
  readonly #swarms = new Map<Sha256Hex, Swarm>();
  readonly #opening = new Map<Sha256Hex, Map<string, { readonly nodeId: NodeId; readonly message: WeightsMessage }>>();
  #notOrdered = 0;
  #moment = { atMs: Number.NEGATIVE_INFINITY, tells: 0 };
  #timer: Timer | null = null;
  #isStopped = false;

  constructor(ports: WeightsTrackerPorts) {
    this.#ports = ports;
    this.#grants = new GrantBook(ports);
    this.#rights = new NodeRights(ports);
    this.#naming = {
      ...ports,
      grants: this.#grants,
      reports: this.reports,
      isSomebodyWaiting: () => this.#isSomebodyWaiting(),
      endpointsOf: (nodeId) => this.#endpoints.get(nodeId) ?? null,
    };
    ports.roster.subscribe({
      onOnline: (nodeId) => this.#changed(nodeId),
      onSuspect: (nodeId) => this.#changed(nodeId),
      onWithdrawn: (nodeId) => this.#changed(nodeId),
      onGone: (nodeId) => this.#gone(nodeId),
      onWork: () => undefined,
      onReplicas: (nodeId) => this.#reported(nodeId),
      onOrdered: (nodeId, weightsSha256) => this.#rights.give(nodeId, weightsSha256),
      onPeer: (nodeId, message) => this.#heard(nodeId, message),
    });
  }

  stop(): void {
    this.#isStopped = true;
    this.#timer?.cancel();
    this.#rights.stop();
  }

  stats(): TrackerStats {
    const wants = this.swarms().reduce((sum, swarm) => sum + swarm.wants.size, 0);
    const { issued: grants } = this.#grants;
    return { grants, droppedMessages: this.#budget.dropped, notOrdered: this.#notOrdered, wants };
  }

  /** By digest. */
  swarms(): readonly Swarm[] {
    return [...this.#swarms.values()].sort((a, b) => (a.weightsSha256 < b.weightsSha256 ? -1 : 1));
  }

  /** The coordinator told the node to have these weights. */
  isOrdered(nodeId: NodeId, weightsSha256: Sha256Hex): boolean {
    return this.#rights.has(nodeId, weightsSha256);
  }

  /** Resolves when what the node was ordered in earlier lives of the coordinator is known; null when it is already. */
  rightsOf(nodeId: NodeId): Promise<void> | null {
    return this.#rights.read(nodeId);
  }

  /** Other nodes reach it, so what it takes from the source it has to claim. */
  isPeer(nodeId: NodeId): boolean {
    return this.#endpoints.has(nodeId);
  }

  /** The state of these weights; null until their manifest is there. Rejects as the contents do. */
  async open(weightsSha256: Sha256Hex): Promise<Swarm | null> {
    const known = this.#swarms.get(weightsSha256);
    if (known !== undefined) return known;
    const content = await this.#ports.contents.content(weightsSha256);
    const opened = this.#swarms.get(weightsSha256);
    if (opened !== undefined || content === null || this.#isStopped) return opened ?? null;
    const swarm = new Swarm(weightsSha256, content.manifest, isPublic(content.manifest));
    this.#swarms.set(weightsSha256, swarm);
    return swarm;
  }

  /** Somebody takes from the source what is waited for. */
  isSourceUrgent(): boolean {
    const nowMs = this.#ports.clock.monoMs();
    for (const { claims } of this.#swarms.values()) if (claims.isUrgent(nowMs)) return true;
    return false;
  }

  #isSomebodyWaiting(): boolean {
    for (const { wants } of this.#swarms.values()) for (const { isIdle } of wants.values()) if (!isIdle) return true;
    return false;
  }

  /** Models were added or removed. */
  forgetModels(isServed: (weightsSha256: Sha256Hex) => boolean): void {
    this.#rights.forgetModels(isServed);
    for (const weightsSha256 of this.#swarms.keys()) if (!isServed(weightsSha256)) this.#swarms.delete(weightsSha256);
  }

  // -------------------------------------------------------------- nodes

  #changed(nodeId: NodeId): void {
    const isHolder = isNameable(nodeId, this.#naming);
    for (const swarm of this.#swarms.values()) {
      if (!swarm.holdings.has(nodeId)) continue;
      swarm.setNameable(nodeId, isHolder, this.#ports.clock.monoMs());
      swarm.makeStale(nodeId);
    }
    this.#watch();
  }

  #gone(nodeId: NodeId): void {
    this.#endpoints.delete(nodeId);
    this.#budget.forget(nodeId);
    this.#grants.forget(nodeId);
    for (const swarm of this.#swarms.values()) if (swarm.forget(nodeId)) swarm.makeStale(null);
    for (const waiting of this.#opening.values()) {
      for (const [key, { nodeId: sender }] of waiting) if (sender === nodeId) waiting.delete(key);
    }
    this.#rights.endSession(nodeId, this.#ports.roster.node(nodeId) === null);
  }

  /** Replicas of public weights are believed to be from an order that this life of the coordinator does not know. */
  #reported(nodeId: NodeId): void {
    for (const { weightsSha256, state } of this.#ports.roster.node(nodeId)?.replicas ?? []) {
      if (weightsSha256 === undefined || (state !== "loading" && state !== "ready")) continue;
      const digest = sha256Hex(weightsSha256);
      if (this.#rights.has(nodeId, digest) || this.#ports.models.byWeights(digest) === null) continue;
      void this.#opened(digest).then((swarm) => {
        if (swarm?.isPublic === true && this.#ports.roster.node(nodeId) !== null) this.#rights.give(nodeId, digest);
      });
    }
  }

  /** Null also when the contents cannot be read, which is logged: whoever asks for them next tries again. */
  async #opened(weightsSha256: Sha256Hex): Promise<Swarm | null> {
    try {
      return await this.open(weightsSha256);
    } catch (thrown) {
      if (!(thrown instanceof FallowError)) throw thrown;
      this.#ports.log.error({ weightsSha256, cause: describeFault(thrown) }, "manifest cannot be read");
      return null;
    }
  }

  // -------------------------------------------------------------- messages

  #heard(nodeId: NodeId, message: PeerMessage): void {
    if (message.type === "peer.links" && message.links.some(({ carrier }) => carrier === "relay")) {
      for (const { wants } of this.#swarms.values()) tellAgain(wants.get(nodeId));
      this.#watch();
    }
    if (message.type === "peer.links" || message.type === "relay.ask") return;
    const taken = this.#budget.take(nodeId, this.#ports.clock.monoMs());
    if (taken === "flood") this.#breach(nodeId, "peer-flood", "more messages about weights than a node may send");
    if (taken !== "ok") return;
    switch (message.type) {
      case "peer.endpoints":
        this.#endpoints.set(nodeId, message.endpoints);
        this.#changed(nodeId);
        break;
      case "peer.report":
        this.#report(nodeId, message);
        break;
      default:
        this.#aboutWeights(nodeId, message);
    }
  }

  #aboutWeights(nodeId: NodeId, message: WeightsMessage): void {
    const reading = this.#rights.read(nodeId);
    if (reading === null) this.#dealWith(nodeId, message);
    else void reading.then(() => this.#isHere(nodeId) && this.#dealWith(nodeId, message));
  }

  #isHere(nodeId: NodeId): boolean {
    return (this.#ports.roster.node(nodeId)?.state ?? "offline") !== "offline";
  }

  #dealWith(nodeId: NodeId, message: WeightsMessage): void {
    const digest = sha256Hex(message.weightsSha256);
    const swarm = this.#swarms.get(digest);
    if (swarm !== undefined) this.#take(nodeId, message, swarm);
    else if (this.#ports.models.byWeights(digest) === null) this.#refuse(nodeId, message);
    else this.#wait(nodeId, message, digest);
  }

  /** Until the manifest is read, the last of each kind counts. */
  #wait(nodeId: NodeId, message: WeightsMessage, digest: Sha256Hex): void {
    const waiting = this.#opening.get(digest);
    const key = `${nodeId} ${message.type}`;
    if (waiting !== undefined) {
      if (waiting.size < WAITING_MAX) waiting.set(key, { nodeId, message });
      return;
    }
    this.#opening.set(digest, new Map([[key, { nodeId, message }]]));
    void this.#opened(digest).then((swarm) => {
      const waited = [...(this.#opening.get(digest)?.values() ?? [])];
      this.#opening.delete(digest);
      for (const one of waited) {
        if (swarm === null) this.#refuse(one.nodeId, one.message);
        else this.#take(one.nodeId, one.message, swarm);
      }
    });
  }

  #take(nodeId: NodeId, message: WeightsMessage, swarm: Swarm): void {
    switch (message.type) {
      case "weights.have":
        this.#have(nodeId, message, swarm);
        break;
      case "weights.want":
        this.#want(nodeId, message, swarm);
        break;
      case "weights.claim":
        this.#claim(nodeId, message, swarm);
        break;
      case "weights.done":
        swarm.endWant(nodeId);
        break;
    }
    this.#watch();
  }

  #have(nodeId: NodeId, { runs, uploads, uploadsMax }: Of<"weights.have">, swarm: Swarm): void {
    if (!areRunsValid(runs, swarm.chunkCount)) {
      this.#breach(nodeId, "weights-runs", `chunks beyond the ${swarm.chunkCount} of ${swarm.weightsSha256}`);
      return;
    }
    const network = this.#ports.roster.node(nodeId)?.network ?? null;
    const told = { runs, uploads, uploadsMax, network, isNameable: isNameable(nodeId, this.#naming) };
    if (swarm.tell(nodeId, { ...told, nowMs: this.#ports.clock.monoMs() })) swarm.makeStale(nodeId);
  }

  #want(nodeId: NodeId, message: Of<"weights.want">, swarm: Swarm): void {
    const need = this.#needed(nodeId, message, swarm);
    if (need === null) return;
    const before = swarm.wants.get(nodeId);
    const nowMs = this.#ports.clock.monoMs();
    const want: Want = {
      need,
      isIdle: message.isIdle,
      askedAtMs: nowMs,
      toldAtMs: before?.toldAtMs ?? Number.NEGATIVE_INFINITY,
      dueAtMs: Number.POSITIVE_INFINITY,
      isStale: true,
      unreachable: before?.unreachable ?? new Map<NodeId, number>(),
    };
    swarm.wants.set(nodeId, want);
    if (nowMs - want.toldAtMs >= TELL_MS && this.#mayTellNow(nowMs)) this.#tell(nodeId, want, swarm);
  }

  #claim(nodeId: NodeId, message: Of<"weights.claim">, swarm: Swarm): void {
    const asked = this.#needed(nodeId, message, swarm);
    if (asked === null) return;
    const unreachable = message.unreachable.map(asNodeId);
    const { chunksMax } = message;
    const question = { nodeId, asked, chunksMax, unreachable, isSourceUrgent: this.isSourceUrgent() };
    this.#ports.roster.send(nodeId, answerClaim(question, swarm, this.#naming));
  }

  /** Null when the node may not have them, or asks for what there is not. */
  #needed(nodeId: NodeId, message: Of<"weights.want" | "weights.claim">, swarm: Swarm): ChunkSet | null {
    if (!areRunsValid(message.need, swarm.chunkCount)) {
      this.#breach(nodeId, "weights-runs", `chunks beyond the ${swarm.chunkCount} of ${swarm.weightsSha256}`);
      return null;
    }
    if (!this.#rights.has(nodeId, swarm.weightsSha256)) {
      this.#refuse(nodeId, message);
      return null;
    }
    return ChunkSet.of(swarm.chunkCount, message.need);
  }

  /** Weights that the grid has not, or that the node was not told to have. The source tells which, by name. */
  #refuse(nodeId: NodeId, { type, weightsSha256 }: WeightsMessage): void {
    if (type === "weights.want") {
      this.#notOrdered += 1;
      this.#ports.roster.send(nodeId, { type: "weights.holders", weightsSha256, holders: [] });
    } else if (type === "weights.claim") {
      this.#ports.roster.send(nodeId, emptyClaim(weightsSha256, RETRY_REFUSED_MS));
    }
  }

  #report(reporter: NodeId, { nodeId: named, weightsSha256, code, detail }: Of<"peer.report">): void {
    const { roster, clock, log } = this.#ports;
    const accused = asNodeId(named);
    const digest = weightsSha256 === null ? null : sha256Hex(weightsSha256);
    if (digest === null || accused === reporter || !this.#grants.hasGrant(reporter, accused, digest)) {
      this.reports.countUnfounded();
      return;
    }
    const isQuarantined = this.reports.take({
      reporter,
      reporterGroup: groupOf(roster.node(reporter)),
      accused,
      accusedGroup: groupOf(roster.node(accused)),
      weightsSha256: digest,
      code,
      nowMs: clock.monoMs(),
    });
    log.warn({ reporter, accused, weightsSha256: digest, code, detail, isQuarantined }, "node reported by another");
    tellAgain(this.#swarms.get(digest)?.wants.get(reporter));
    if (isQuarantined) this.#changed(accused);
    this.#watch();
  }

  #breach(nodeId: NodeId, code: string, detail: string): void {
    this.#ports.roster.reportBreach(nodeId, { code, detail });
  }

  // -------------------------------------------------------------- telling

  /** Few were answered in this moment; of a crowd the others have their turn. */
  #mayTellNow(nowMs: number): boolean {
    if (nowMs - this.#moment.atMs >= NEXT_TURN_MS) this.#moment = { atMs: nowMs, tells: 0 };
    this.#moment.tells += 1;
    return this.#moment.tells <= TELLS_PER_TURN;
  }

  #tell(nodeId: NodeId, want: Want, swarm: Swarm): void {
    const { message, dueAtMs } = holdersMessage(nodeId, swarm, this.#naming);
    want.isStale = false;
    want.toldAtMs = this.#ports.clock.monoMs();
    want.dueAtMs = dueAtMs;
    this.#ports.roster.send(nodeId, message);
  }

  #watch(): void {
    if (this.#timer !== null || this.#isStopped) return;
    this.#timer = this.#ports.clock.setTimer(TELL_MS, () => this.#turn());
  }

  /** Some of those whose picture is out of date; the others in the next turns. */
  #turn(): void {
    this.#timer = null;
    if (this.#isStopped) return;
    const nowMs = this.#ports.clock.monoMs();
    const { wants } = this.stats();
    const gapMs = TELL_MS + wants * TELL_MS_PER_WANT;
    let told = 0;
    for (const swarm of this.#swarms.values()) {
      for (const [nodeId, want] of swarm.wants) {
        const isDue = (want.isStale && nowMs - want.toldAtMs >= gapMs) || nowMs >= want.dueAtMs;
        if (!isDue) continue;
        if (told++ >= TELLS_PER_TURN) {
          this.#timer = this.#ports.clock.setTimer(NEXT_TURN_MS, () => this.#turn());
          return;
        }
        this.#tell(nodeId, want, swarm);
      }
    }
    if (wants > 0) this.#watch();
  }
}
