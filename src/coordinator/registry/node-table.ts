/**
 * Every node that ever joined, with its open session if it has one, and who wants to hear about changes. The state table is in
 * domain/node.ts. A change tells its consequences in the same turn, so no one ever sees a state that nobody was told of.
 */
import { describeFault } from "../../domain/fault.ts";
import { type NodeId, sha256Hex } from "../../domain/ids.ts";
import type { NodeState } from "../../domain/node.ts";
import type { Clock } from "../../ports/clock.ts";
import type { LinkCloseCode } from "../../ports/link.ts";
import type { Log } from "../../ports/log.ts";
import type { NodeRecord, NodeStore } from "../../ports/store.ts";
import type { CoordinatorMessage } from "../../wire/agent-link.ts";
import type { NodeView, RosterHandlers } from "../roster.ts";
import { KnownNode } from "./known-node.ts";
import type { NodeSession } from "./node-session.ts";

/** The time of a node's last message is for people: a node that comes and goes is not written more often than this. */
const LAST_SEEN_WRITE_MS = 60_000;

export interface SessionEnd {
  /** What the other end is told; null when its link is closed already. */
  readonly code: LinkCloseCode | null;
  readonly cause: string;
  /** Nobody reads at the other end: cut the link instead of waiting for an answer. */
  readonly isCut?: boolean;
}

export interface NodeTablePorts {
  readonly store: NodeStore;
  readonly clock: Clock;
  readonly log: Log;
}

export class NodeTable {
  readonly #ports: NodeTablePorts;
  readonly #nodes = new Map<NodeId, KnownNode>();
  readonly #byBearer = new Map<string, NodeId>();
  readonly #subscribers: RosterHandlers[] = [];
  /** Without removed nodes. */
  #sorted: readonly KnownNode[] = [];
  #version = 1;
  #isClosing = false;

  constructor(ports: NodeTablePorts) {
    this.#ports = ports;
  }

  async load(): Promise<void> {
    const nowMs = this.#ports.clock.monoMs();
    for (const record of await this.#ports.store.list()) this.#nodes.set(record.nodeId, new KnownNode(record, nowMs));
    this.#sort();
  }

  get version(): number {
    return this.#version;
  }

  /** Something changed that could alter a plan. */
  bump(): void {
    this.#version += 1;
  }

  /** By node id, removed ones left out. */
  all(): readonly KnownNode[] {
    return this.#sorted;
  }

  views(): readonly NodeView[] {
    return this.#sorted.map((node) => node.view());
  }

  /** Also a removed one. */
  find(nodeId: NodeId): KnownNode | null {
    return this.#nodes.get(nodeId) ?? null;
  }

  findPresent(nodeId: NodeId): KnownNode | null {
    const node = this.#nodes.get(nodeId);
    return node === undefined || node.record.removedAtMs !== null ? null : node;
  }

  bySessionToken(tokenSha256: string): NodeId | null {
    return this.#byBearer.get(tokenSha256) ?? null;
  }

  subscribe(handlers: RosterHandlers): void {
    this.#subscribers.push(handlers);
  }

  tell(call: (handlers: RosterHandlers) => void): void {
    for (const handlers of this.#subscribers) call(handlers);
  }

  /** The node was sent a message: who keeps account of orders hears of it. Always true. */
  sent(nodeId: NodeId, message: CoordinatorMessage): boolean {
    if (message.type === "replica.load" || message.type === "weights.stage") {
      const draft = message.type === "replica.load" ? message.stage?.draft : undefined;
      for (const { weightsSha256 } of draft === undefined ? [message] : [message, draft]) {
        this.tell((handlers) => handlers.onOrdered?.(nodeId, sha256Hex(weightsSha256)));
      }
    }
    return true;
  }

  /** The node of this record, which is new or comes back. What an operator ordered meanwhile stays. */
  keep(record: NodeRecord): KnownNode {
    const known = this.#nodes.get(record.nodeId);
    if (known !== undefined) {
      const { isDraining, removedAtMs } = known.record;
      known.record = { ...record, isDraining, removedAtMs };
      known.touch();
      return known;
    }
    const node = new KnownNode(record, this.#ports.clock.monoMs());
    this.#nodes.set(record.nodeId, node);
    this.#sort();
    return node;
  }

  /** The node is online from here on. */
  open(node: KnownNode, session: NodeSession): void {
    this.#byBearer.set(session.sessionTokenSha256, session.nodeId);
    this.change(node, () => {
      node.session = session;
    });
    if (session.replicas.length > 0) this.tell((handlers) => handlers.onReplicas(session.nodeId));
  }

  /** Makes a change, and tells what it means for planning. */
  change<T>(node: KnownNode, make: () => T): T {
    const before = statusOf(node);
    const made = make();
    node.touch();
    const after = statusOf(node);
    if (before.state === after.state && before.isYielding === after.isYielding) return made;
    this.#version += 1;
    const { nodeId } = node.record;
    if (!before.isPlannable && after.isPlannable) this.tell((handlers) => handlers.onOnline(nodeId));
    if (after.isYielding && !before.isYielding) this.tell((handlers) => handlers.onWithdrawn(nodeId, "yield"));
    if (after.state === "draining" && before.state !== "draining") {
      this.tell((handlers) => handlers.onWithdrawn(nodeId, "drain"));
    }
    if (after.state === "suspect" && before.state !== "suspect") this.tell((handlers) => handlers.onSuspect(nodeId));
    return made;
  }

  /** Ends a session at once; what still arrives on its link is ignored. Ending it again does nothing. */
  end(session: NodeSession, { code, cause, isCut }: SessionEnd): void {
    if (session.isOver) return;
    session.isOver = true;
    if (code !== null) session.link.close(code, cause);
    if (isCut === true) session.link.destroy();
    this.#byBearer.delete(session.sessionTokenSha256);
    const node = this.#nodes.get(session.nodeId);
    if (node?.session !== session) return;
    node.lastMessageMonoMs = session.lastHeardMs;
    node.session = null;
    node.touch();
    this.#version += 1;
    this.#ports.log.info({ nodeId: session.nodeId, cause }, "node gone");
    this.tell((handlers) => handlers.onGone(session.nodeId, cause));
    void this.#storeLastSeen(node);
  }

  /** The operator removes the node for good. */
  async remove(node: KnownNode, end: SessionEnd): Promise<void> {
    node.record = { ...node.record, removedAtMs: this.#ports.clock.wallMs() };
    this.#sort();
    this.#version += 1;
    if (node.session !== null) this.end(node.session, end);
    await this.#ports.store.put(node.record);
  }

  /** The coordinator stops: ends every session, and writes nothing any more. */
  close(end: SessionEnd): void {
    this.#isClosing = true;
    for (const { session } of this.#nodes.values()) if (session !== null) this.end(session, end);
  }

  async #storeLastSeen(node: KnownNode): Promise<void> {
    const wallMs = this.#ports.clock.wallMs();
    if (this.#isClosing || Math.abs(wallMs - node.record.lastSeenAtMs) < LAST_SEEN_WRITE_MS) return;
    node.record = { ...node.record, lastSeenAtMs: wallMs };
    try {
      await this.#ports.store.put(node.record);
    } catch (thrown) {
      // Only the time of the last message is lost; the node itself was stored when it joined.
      this.#ports.log.warn({ nodeId: node.record.nodeId, cause: describeFault(thrown) }, "node not stored");
    }
  }

  #sort(): void {
    this.#sorted = [...this.#nodes.values()]
      .filter((node) => node.record.removedAtMs === null)
      .sort((a, b) => (a.record.nodeId < b.record.nodeId ? -1 : 1));
  }
}

function statusOf(node: KnownNode): { state: NodeState; isPlannable: boolean; isYielding: boolean } {
  return { state: node.state, isPlannable: node.isPlannable, isYielding: node.session?.isYielding ?? false };
}
