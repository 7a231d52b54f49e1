/**
 * The grid's membership: who may join, who is connected, who is silent, who is gone. Implements the Roster that dispatch and
 * the replica pool read; the bounds on silence are LIVENESS in domain/node.ts.
 *
 * A node is its key. It has at most one session, that of the newest link that proved the key; sessions end when their link
 * closes, when silence lasts too long, or by order, and in that very turn the node is out of every view. So there are no
 * ghosts: what is shown as online has an open link that spoke within the bound.
 *
 * Decisions use the monotonic clock only. The wall clock is stored, shown, and compared to warn about a node's clock.
 */
import { assert } from "../../domain/assert.ts";
import { describeFault } from "../../domain/fault.ts";
import type { NodeId } from "../../domain/ids.ts";
import { LIVENESS } from "../../domain/node.ts";
import { toHex } from "../../market/hex.ts";
import type { Clock, Timer } from "../../ports/clock.ts";
import type { Crypto } from "../../ports/crypto.ts";
import { LINK_CLOSE, type Link } from "../../ports/link.ts";
import { FAULT_AT_LINK, type Log } from "../../ports/log.ts";
import type { Random } from "../../ports/random.ts";
import type { NodeRecord, Store } from "../../ports/store.ts";
import { ownPauseMs } from "../../scheduler/liveness/failure-detector.ts";
import { type AgentMessage, agentMessageSchema, type CoordinatorMessage } from "../../wire/agent-link.ts";
import { GRID_ID_PATTERN } from "../../wire/join-code.ts";
import { parseJson, whyNot } from "../../wire/json-frame.ts";
import type { NodeView, Roster, RosterHandlers } from "../roster.ts";
import { type Applicant, Handshake } from "./handshake.ts";
import { type IssuedJoinToken, JoinTokens } from "./join-tokens.ts";
import type { KnownNode } from "./known-node.ts";
import { type LinkRefusal, refusal } from "./link-refusal.ts";
import { recordOf, shouldStore } from "./node-records.ts";
import { type HeartbeatChanges, NodeSession } from "./node-session.ts";
import { NodeTable } from "./node-table.ts";
import { handOver } from "./peer-messages.ts";
import { Strangers } from "./strangers.ts";
import { Strikes } from "./strikes.ts";
import { type GridTold, welcomeOf } from "./welcome.ts";

export type RegistryOptions = GridTold;

export interface RegistryPorts {
  readonly store: Pick<Store, "nodes" | "joinTokens">;
  readonly clock: Clock;
  readonly crypto: Crypto;
  readonly random: Random;
  readonly log: Log;
}

export interface RegistryStats {
  /** Of strangers and of nodes. */
  readonly linksOpen: number;
  /** Links turned away, by code. */
  readonly refused: Readonly<Record<string, number>>;
  readonly breaches: number;
  readonly strikes: number;
}

const SESSION_TOKEN_BYTES = 32;
/** With jitter at the agents, a crowd that was turned away comes back spread over about this time. */
const BUSY_RETRY_MS = 1_000;
const STOPPING = refusal("coordinator-busy", "the coordinator is stopping", BUSY_RETRY_MS);
const CROWDED = refusal("coordinator-busy", "too many nodes are joining at once", BUSY_RETRY_MS);

export class NodeRegistry implements Roster {
  readonly #options: RegistryOptions;
  readonly #ports: RegistryPorts;
  readonly #table: NodeTable;
  readonly #tokens: JoinTokens;
  readonly #strangers = new Strangers();
  readonly #strikes = new Strikes();
  readonly #handshakes = new Set<Handshake>();
  readonly #refused = new Map<string, number>();
  #breachCount = 0;
  #strikeCount = 0;
  #connections = 0;
  #lastLookMs = 0;
  #timer: Timer | null = null;
  #isStopped = false;

  constructor(options: RegistryOptions, ports: RegistryPorts) {
    assert(
      GRID_ID_PATTERN.test(options.gridId),
      `${JSON.stringify(options.gridId)} is a grid id (${GRID_ID_PATTERN.source})`,
    );
    this.#options = options;
    this.#ports = ports;
    this.#table = new NodeTable({ ...ports, store: ports.store.nodes });
    this.#tokens = new JoinTokens(options.gridId, { ...ports, store: ports.store.joinTokens });
  }

  /** Reads the nodes that joined in earlier lives, and begins to watch. Links may be accepted from here on. */
  async start(): Promise<void> {
    await this.#table.load();
    this.#lastLookMs = this.#ports.clock.monoMs();
    this.#watch();
  }

  get version(): number {
    return this.#table.version;
  }

  nodes(): readonly NodeView[] {
    return this.#table.views();
  }

  node(nodeId: NodeId): NodeView | null {
    return this.#table.findPresent(nodeId)?.view() ?? null;
  }

  subscribe(handlers: RosterHandlers): void {
    this.#table.subscribe(handlers);
  }

  send(nodeId: NodeId, message: CoordinatorMessage): boolean {
    const session = this.#table.find(nodeId)?.session ?? null;
    if (session === null) return false;
    if (session.send(message)) return this.#table.sent(nodeId, message);
    this.#table.end(session, { code: LINK_CLOSE.silent, cause: "the node does not read what it is sent", isCut: true });
    return false;
  }

  reportBreach(nodeId: NodeId, breach: { code: string; detail: string }): void {
    this.#breachCount += 1;
    this.#ports.log.warn({ nodeId, ...breach }, "breach of the protocol");
    const isOneTooMany = this.#strikes.breach(nodeId, this.#ports.clock.monoMs());
    const session = this.#table.find(nodeId)?.session ?? null;
    if (!isOneTooMany || session === null) return;
    this.#strikeCount += 1;
    this.#table.end(session, {
      code: LINK_CLOSE.protocolError,
      cause: `too many breaches, the last one: ${breach.code}`,
    });
  }

  /** Takes over a link that somebody opened at `LINK_PATH`. */
  accept(link: Link): void {
    const connection = ++this.#connections;
    const isCounted = !this.#isStopped && this.#strangers.enter(link.remote);
    const handshake = new Handshake(link, {
      ...this.#ports,
      gridId: this.#options.gridId,
      admit: (applicant) => this.#admit(applicant, connection),
      onSettled: (refused) => {
        this.#handshakes.delete(handshake);
        if (isCounted) this.#strangers.leave(link.remote);
        if (refused !== null) this.#refused.set(refused.code, (this.#refused.get(refused.code) ?? 0) + 1);
      },
    });
    this.#handshakes.add(handshake);
    handshake.start();
    if (!isCounted) handshake.refuse(this.#isStopped ? STOPPING : CROWDED);
  }

  issueJoinToken(options: { usesMax: number; ttlMs: number }): Promise<IssuedJoinToken> {
    return this.#tokens.issue(options);
  }

  /** Orders a drain or lifts it; kept over restarts. False when the grid has no such node. */
  async drain(nodeId: NodeId, isDraining: boolean): Promise<boolean> {
    const node = this.#table.findPresent(nodeId);
    if (node === null) return false;
    if (node.record.isDraining === isDraining) return true;
    // The node hears of it first: who hears of the change may have orders for it in the same turn.
    this.send(nodeId, { type: "node.drain", isDraining });
    this.#table.change(node, () => {
      node.record = { ...node.record, isDraining };
    });
    await this.#ports.store.nodes.put(node.record);
    return true;
  }

  /** Removes a node for good: its key is refused from now on. False when the grid has no such node. */
  async remove(nodeId: NodeId): Promise<boolean> {
    const node = this.#table.findPresent(nodeId);
    if (node === null) return false;
    await this.#table.remove(node, { code: LINK_CLOSE.removed, cause: "removed by the grid's operator" });
    return true;
  }

  /** The node whose session this bearer belongs to; null once that session has ended. */
  nodeOfBearer(bearer: string): NodeId | null {
    return this.#table.bySessionToken(this.#sha256(bearer));
  }

  stats(): RegistryStats {
    return {
      linksOpen: this.#handshakes.size + this.#table.all().filter((node) => node.session !== null).length,
      refused: Object.fromEntries(this.#refused),
      breaches: this.#breachCount,
      strikes: this.#strikeCount,
    };
  }

  /** Closes every link; agents will try again later. May be called twice. */
  stop(): void {
    this.#isStopped = true;
    this.#timer?.cancel();
    for (const handshake of this.#handshakes) handshake.refuse(STOPPING);
    this.#table.close({ code: LINK_CLOSE.normal, cause: "the coordinator stops" });
  }

  // -------------------------------------------------------------- joining

  async #admit(applicant: Applicant, connection: number): Promise<LinkRefusal | null> {
    const { nodeId, hello } = applicant;
    const { clock, store } = this.#ports;
    const known = this.#table.find(nodeId)?.record ?? null;
    if (known !== null && known.removedAtMs !== null) {
      return refusal("node-removed", "this grid's operator removed the node: it can join again with a new key only");
    }
    const keptOutMs = this.#strikes.keptOutMs(nodeId, clock.monoMs());
    if (keptOutMs > 0) {
      const seconds = Math.ceil(keptOutMs / 1_000);
      return refusal(
        "node-kept-out",
        `the node broke the protocol and is kept out for another ${seconds} s`,
        keptOutMs,
      );
    }
    if (known === null) {
      const refused = await this.#tokens.use({ token: hello.joinToken, nodeId });
      if (refused !== null) return refused;
    }
    const record = recordOf({ nodeId, hello, known, wallMs: clock.wallMs() });
    const isStored = shouldStore(known, record);
    if (isStored) await store.nodes.put(record);
    if (this.#isStopped) return STOPPING;
    this.#install(
      applicant,
      isStored ? record : { ...record, lastSeenAtMs: known?.lastSeenAtMs ?? record.lastSeenAtMs },
      connection,
    );
    return null;
  }

  #install({ nodeId, hello, link, takeOver }: Applicant, record: NodeRecord, connection: number): void {
    const { clock, random, log } = this.#ports;
    const sessionToken = toHex(random.bytes(SESSION_TOKEN_BYTES));
    const session = new NodeSession({
      nodeId,
      link,
      connection,
      sessionTokenSha256: this.#sha256(sessionToken),
      hello,
      joinTokenSha256: hello.joinToken === null ? null : this.#sha256(hello.joinToken),
      nowMs: clock.monoMs(),
    });
    const isTaken = takeOver({
      onFrame: (frame) => this.#contained(session, () => this.#onFrame(session, frame)),
      onClose: (code, reason) =>
        this.#contained(session, () => {
          this.#table.end(session, { code: null, cause: `link closed: ${code} ${reason}`.trim() });
        }),
    });
    if (!isTaken) return;
    const node = this.#table.keep(record);
    if (node.record.removedAtMs !== null) {
      this.#table.end(session, { code: LINK_CLOSE.removed, cause: "removed by the grid's operator" });
      return;
    }
    if (node.session !== null && node.session.connection > connection) {
      this.#table.end(session, { code: LINK_CLOSE.replaced, cause: "a newer link of the same node is open" });
      return;
    }
    if (node.session !== null) {
      this.#table.end(node.session, { code: LINK_CLOSE.replaced, cause: "the node opened a newer link" });
    }
    session.send(welcomeOf(this.#options, { nodeId, sessionToken, wallMs: clock.wallMs(), remote: link.remote }));
    if (node.record.isDraining) session.send({ type: "node.drain", isDraining: true });
    log.info({ nodeId, name: record.name, remote: link.remote }, "node online");
    this.#table.open(node, session);
  }

  // -------------------------------------------------------------- messages

  /**
   * The border at which a bug met while handling one node's link ends that link and nothing else
   * (docs/decisions/0011-bugs-end-a-link-or-a-request.md).
   */
  #contained(session: NodeSession, handle: () => void): void {
    try {
      handle();
    } catch (thrown) {
      this.#logFault(session, thrown);
      try {
        this.#strike(session, "the coordinator failed at what the node sent");
      } catch (again) {
        // Who hears that the node is gone may meet the same bug; the session is over and its link closed before anybody hears.
        this.#logFault(session, again);
      }
    }
  }

  #logFault({ nodeId }: NodeSession, thrown: unknown): void {
    const stack = thrown instanceof Error ? thrown.stack : undefined;
    this.#ports.log.error({ nodeId, cause: describeFault(thrown), stack }, FAULT_AT_LINK);
  }

  #onFrame(session: NodeSession, frame: string): void {
    const node = this.#table.find(session.nodeId);
    if (session.isOver || node === null) return;
    const nowMs = this.#ports.clock.monoMs();
    if (!session.takeFrame(frame.length, nowMs)) {
      this.#strike(session, "flood: more frames than a node may send");
      return;
    }
    const parsed = agentMessageSchema.safeParse(parseJson(frame));
    if (!parsed.success) {
      this.#strike(session, `a frame that is no message: ${whyNot(parsed.error)}`);
      return;
    }
    this.#hear(node, session, nowMs);
    this.#onMessage(node, session, parsed.data);
  }

  #hear(node: KnownNode, session: NodeSession, nowMs: number): void {
    if (session.verdict === "alive") session.hear(nowMs);
    else this.#table.change(node, () => session.hear(nowMs));
  }

  #onMessage(node: KnownNode, session: NodeSession, message: AgentMessage): void {
    const { nodeId } = session;
    switch (message.type) {
      case "hello":
        this.#strike(session, "a second hello");
        break;
      case "goodbye":
        this.#table.end(session, { code: LINK_CLOSE.normal, cause: `the node said goodbye: ${message.reason}` });
        break;
      case "heartbeat": {
        const wallMs = this.#ports.clock.wallMs();
        const changes = this.#table.change(node, () => session.takeHeartbeat(message, wallMs));
        this.send(nodeId, { type: "heartbeat.ack", seq: message.seq, coordinatorTimeMs: wallMs });
        this.#tellReplicas(nodeId, changes);
        break;
      }
      case "replica.state": {
        const changes = this.#table.change(node, () => session.takeReplica(message.replica));
        if (changes === null) {
          this.#strike(session, "more replicas than a node may have");
          break;
        }
        this.#tellReplicas(nodeId, changes);
        this.#table.tell((handlers) => handlers.onWork(nodeId, message));
        break;
      }
      case "weights.state":
        this.#table.bump();
        this.#table.tell((handlers) => handlers.onWeights?.(nodeId, message));
        break;
      default:
        this.#table.tell((handlers) => handOver(handlers, nodeId, message));
    }
  }

  #tellReplicas(nodeId: NodeId, changes: HeartbeatChanges): void {
    if (changes.plan) this.#table.bump();
    if (changes.replicas) this.#table.tell((handlers) => handlers.onReplicas(nodeId));
  }

  #strike(session: NodeSession, cause: string): void {
    this.#strikeCount += 1;
    this.#strikes.strike(session.nodeId, this.#ports.clock.monoMs());
    this.#table.end(session, { code: LINK_CLOSE.protocolError, cause });
  }

  // -------------------------------------------------------------- silence

  #watch(): void {
    this.#timer = this.#ports.clock.setTimer(LIVENESS.checkMs, () => {
      const nowMs = this.#ports.clock.monoMs();
      const pausedMs = ownPauseMs({ lastLookMs: this.#lastLookMs, nowMs, plannedMs: LIVENESS.checkMs });
      this.#lastLookMs = nowMs;
      for (const node of this.#table.all()) this.#look(node, nowMs, pausedMs);
      if (!this.#isStopped) this.#watch();
    });
  }

  #look(node: KnownNode, nowMs: number, pausedMs: number): void {
    const { session } = node;
    if (session === null) return;
    if (session.isReceiving()) this.#hear(node, session, nowMs);
    const pulse = session.judge(nowMs, pausedMs);
    if (pulse.verdict === session.verdict) {
      session.take(pulse);
      return;
    }
    const silentMs = Math.round(nowMs - session.lastHeardMs);
    if (pulse.verdict === "dead") {
      this.#table.end(session, { code: LINK_CLOSE.silent, cause: `silent for ${silentMs} ms`, isCut: true });
      return;
    }
    this.#ports.log.warn({ nodeId: session.nodeId, silentMs }, "node suspected");
    this.#table.change(node, () => session.take(pulse));
  }

  #sha256(text: string): string {
    return toHex(this.#ports.crypto.sha256(new TextEncoder().encode(text)));
  }
}
