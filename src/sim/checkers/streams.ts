/**
 * Law 2: at most one live lease epoch a choice, no token of a dead epoch reaches a client, and a stream never repeats, skips
 * or changes a token: each one equals what the model says when nothing disturbs it.
 *
 * The newest order to start a choice names the only lease that may feed its stream. A client's position may never be ahead
 * of what that lease was given plus what its node has sent in order, so a token that came in under an older lease shows up
 * even though it is the right one. A priority request may have two leases until its first token (a hedge): the one that gives
 * that token is then the only one. A lease on a chain also ends with the epoch of the chain under which it was granted.
 */
import type { GenerationEvent } from "../../domain/generation.ts";
import type { RequestId } from "../../domain/ids.ts";
import type { AttemptStart, Chunk } from "../../wire/agent-link.ts";
import type { Checker, Observation, ReferenceText, Report } from "../observation.ts";

interface StreamState {
  readonly reference: ReferenceText;
  readonly label: string;
  position: number;
  isOver: boolean;
  /** Leases that may feed it: one, or two of a priority request that has no token. */
  live: readonly Feed[];
}

interface Feed {
  readonly stream: StreamState;
  readonly node: string;
  readonly connection: number;
  readonly epoch: number;
  nextSeq: number;
  /** Position in the stream up to which this lease has fed. */
  reached: number;
  /** On a chain: the epoch under which it was granted. */
  readonly chain: ChainEpoch | null;
}

export interface ChainEpoch {
  readonly chainId: string;
  readonly epoch: number;
}

/** What the checker of chains knows. */
export interface ChainBooks {
  /** A stage that is not its model's last feeds no stream: it has the same lease as the last. */
  isInner(replicaId: string): boolean;
  /** Of this moment; null for a replica of no chain. */
  epochOf(replicaId: string): ChainEpoch | null;
  isCurrent(chain: ChainEpoch): boolean;
}

export class StreamChecker implements Checker {
  readonly name = "streams";
  readonly #report: Report;
  readonly #chains: ChainBooks;
  readonly #streams = new Map<string, StreamState>();
  readonly #feeds = new Map<string, Feed>();
  readonly #vectors = new Map<RequestId, readonly Float32Array[]>();
  /** Requests of the coordinator itself. */
  readonly #probes = new Set<string>();
  #newestEpoch = 0;

  constructor(options: { report: Report; chains: ChainBooks }) {
    this.#report = options.report;
    this.#chains = options.chains;
  }

  observe(observation: Observation): void {
    switch (observation.kind) {
      case "asked": {
        const { requestId } = observation.request.terms;
        if (observation.request.vectors.length > 0) this.#vectors.set(requestId, observation.request.vectors);
        for (const [choice, reference] of observation.request.reference.entries()) {
          const label = `${requestId}#${choice}`;
          this.#streams.set(label, { reference, label, position: 0, isOver: false, live: [] });
        }
        break;
      }
      case "embedded":
        if (observation.vectors !== null) this.#embedded(observation.requestId, observation.vectors);
        break;
      case "order":
        if (observation.message.type === "attempt.start") this.#started(observation, observation.message);
        if (observation.message.type === "attempt.cancel") this.#cancelled(observation.message.leaseId);
        break;
      case "message":
        if (observation.message.type === "attempt.chunks") {
          for (const chunk of observation.message.chunks) this.#fed(observation, chunk);
        }
        break;
      case "link-closed":
        this.#closed(observation);
        break;
      case "probed":
        this.#probes.add(observation.requestId);
        break;
      case "generation":
        this.#delivered(observation.requestId, observation.choice, observation.event);
        break;
      case "outcome":
        for (const [label, stream] of this.#streams) {
          if (label.startsWith(`${observation.requestId}#`)) stream.isOver = true;
        }
        break;
    }
  }

  #started(at: { node: string; connection: number }, order: AttemptStart): void {
    if (this.#chains.isInner(order.replicaId)) return;
    if (order.epoch <= this.#newestEpoch) {
      this.#break(`${order.leaseId} has epoch ${order.epoch}, not above ${this.#newestEpoch}`);
    }
    this.#newestEpoch = Math.max(this.#newestEpoch, order.epoch);
    if (order.work.kind !== "generate" || this.#probes.has(order.terms.requestId)) return;
    const stream = this.#streams.get(`${order.terms.requestId}#${order.work.choice}`);
    if (stream === undefined) {
      this.#break(`${order.leaseId} was granted for ${order.terms.requestId}, which nobody asked`);
      return;
    }
    if (stream.isOver) this.#break(`${order.leaseId} was granted for ${stream.label}, which is over`);
    if (order.work.generatedCount !== stream.position) {
      this.#break(`${order.leaseId} goes on at ${order.work.generatedCount}, ${stream.label} is at ${stream.position}`);
    }
    const chain = this.#chains.epochOf(order.replicaId);
    const feed = { stream, ...at, epoch: order.epoch, nextSeq: 0, reached: order.work.generatedCount, chain };
    this.#feeds.set(order.leaseId, feed);
    const isHedge = order.terms.tier === "priority" && stream.position === 0;
    const others = isHedge ? stream.live.filter(({ node }) => node !== at.node) : [];
    stream.live = [...others.slice(-1), feed];
  }

  #cancelled(leaseId: string): void {
    const feed = this.#feeds.get(leaseId);
    if (feed === undefined || feed.stream.live.length < 2) return;
    feed.stream.live = feed.stream.live.filter((other) => other !== feed);
  }

  /** Its leases are dead: of two that may feed a stream the other is the only one. */
  #closed({ at, peer, connection }: { at: string; peer: string; connection: number }): void {
    for (const stream of this.#streams.values()) {
      if (stream.live.length < 2) continue;
      const isOpen = (feed: Feed) => feed.connection !== connection || (feed.node !== at && feed.node !== peer);
      stream.live = stream.live.filter(isOpen);
    }
  }

  #fed(at: { node: string; connection: number }, chunk: Chunk): void {
    const feed = this.#feeds.get(chunk.leaseId);
    if (feed === undefined || feed.node !== at.node || feed.connection !== at.connection) return;
    if (chunk.epoch !== feed.epoch || chunk.seq !== feed.nextSeq) return;
    // The chain has another epoch: what its stages still say for this one comes from a dead one.
    if (feed.chain !== null && !this.#chains.isCurrent(feed.chain)) return;
    feed.nextSeq += 1;
    feed.reached += chunk.tokenIds.length;
  }

  #embedded(requestId: RequestId, vectors: readonly Float32Array[]): void {
    const wanted = this.#vectors.get(requestId);
    this.#vectors.delete(requestId);
    const isAlike =
      wanted?.length === vectors.length && wanted.every((vector, at) => vector.join() === vectors[at]?.join());
    if (!isAlike) this.#break(`${requestId} got vectors that are not those of its inputs, or got them twice`);
  }

  #delivered(requestId: RequestId, choice: number, event: GenerationEvent): void {
    const stream = this.#streams.get(`${requestId}#${choice}`);
    if (stream === undefined) {
      this.#break(`${requestId}#${choice} answers what nobody asked`);
      return;
    }
    if (stream.isOver) this.#break(`${stream.label} got ${event.kind} after its end`);
    const { reference } = stream;
    switch (event.kind) {
      case "tokens":
        for (const { tokenId } of event.tokens) {
          const wanted = reference.tokenIds[stream.position];
          if (tokenId !== wanted) {
            this.#break(
              `${stream.label} got token ${tokenId} at ${stream.position}, undisturbed it has ${wanted ?? "none"}`,
            );
          }
          stream.position += 1;
        }
        stream.live = stream.live.filter(({ reached }) => reached >= stream.position || stream.live.length === 1);
        if (stream.live.length !== 1 || stream.live.some(({ reached }) => stream.position > reached)) {
          const reached = stream.live.map((feed) => feed.reached).join(" and ") || "nothing";
          this.#break(`${stream.label} is at ${stream.position}, its one live lease has fed only up to ${reached}`);
        }
        break;
      case "end":
        stream.isOver = true;
        if (stream.position !== reference.tokenIds.length || event.reason !== reference.end) {
          const told = `${event.reason} at ${stream.position}`;
          this.#break(
            `${stream.label} ended by ${told}, undisturbed by ${reference.end} at ${reference.tokenIds.length}`,
          );
        }
        break;
      case "failed":
        stream.isOver = true;
        break;
      case "started":
      case "waiting":
        break;
    }
  }

  #break(what: string): void {
    this.#report({ law: 2, what });
  }
}
