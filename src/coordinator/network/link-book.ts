/**
 * The ways between nodes as the grid knows them: what nodes report (`peer.links`), round trips to the coordinator from heartbeats, networks
 * and regions, put into the scheduler's table. Who asks gets a measurement or an estimate with how sure it is.
 *
 * A report is a hint: a node can only speak of its own links, and what it says of a pair is replaced by what the other end says later.
 * The table outlives sessions, because a node that comes back mostly comes back to the same line; it forgets who was removed.
 */
import { nodeId as asNodeId, type NodeId } from "../../domain/ids.ts";
import type { CarrierKind } from "../../domain/peer.ts";
import type { Clock } from "../../ports/clock.ts";
import { type LinkEstimate, LinkTable } from "../../scheduler/network/link-table.ts";
import type { LinkFact } from "../../scheduler/placement/snapshot.ts";
import type { PeerMessage, Roster } from "../roster.ts";

export interface LinkBookPorts {
  readonly roster: Roster;
  readonly clock: Clock;
}

export interface KnownLink extends LinkEstimate {
  readonly from: NodeId;
  readonly to: NodeId;
  /** Of the newest report. */
  readonly carrier: CarrierKind | null;
  readonly isBandwidthMeasured: boolean;
}

/** Round trips, regions and networks of nodes are read again after this: a grid of thousands takes some milliseconds. */
const NODES_AGE_MS = 5_000;
/** Reports of one node that are taken in a second, and at once: it reports every few seconds. */
const REPORTS_PER_SECOND_MAX = 2;
const REPORTS_BURST_MAX = 10;
/** Links of one node that a plan looks at: chains are looked for over so many nodes (scheduler/placement/chains.ts). */
export const PLANNED_LINKS_MAX = 40;
/** Of these, estimates of ways to neighbours that nobody measured. */
const PLANNED_ESTIMATES_MAX = 16;
/** What plans are told of a node's links holds for so long, and up to twice that by node, so that not all are looked up in one turn. */
const FACTS_AGE_MS = 30_000;

export class LinkBook {
  readonly #ports: LinkBookPorts;
  readonly #table = new LinkTable();
  readonly #tokens = new Map<NodeId, { left: number; atMs: number }>();
  readonly #facts = new Map<NodeId, { readonly links: readonly LinkFact[]; readonly untilMs: number }>();
  readonly #neighbours = new Map<string, NodeId[]>();
  #readAtMs = Number.NEGATIVE_INFINITY;
  #reports = 0;
  #dropped = 0;

  constructor(ports: LinkBookPorts) {
    this.#ports = ports;
    ports.roster.subscribe({
      onOnline: () => this.#forgetNodes(),
      onSuspect: () => undefined,
      onWithdrawn: () => undefined,
      onGone: (nodeId) => this.#gone(nodeId),
      onWork: () => undefined,
      onReplicas: () => undefined,
      onPeer: (nodeId, message) => {
        if (message.type === "peer.links") this.#heard(nodeId, message);
      },
    });
  }

  stats(): { readonly reports: number; readonly dropped: number; readonly pairs: number } {
    return { reports: this.#reports, dropped: this.#dropped, pairs: this.measured().length };
  }

  /** From one node to another. */
  estimate(from: NodeId, to: NodeId): LinkEstimate {
    this.#readNodes();
    return this.#table.estimate(from, to, this.#ports.clock.monoMs());
  }

  /** Both ways of each pair that was measured and is online at both ends; by node ids. */
  measured(): readonly KnownLink[] {
    this.#readNodes();
    return this.#ports.roster
      .nodes()
      .filter(({ state }) => state !== "offline")
      .flatMap(({ nodeId }) => this.linksOf(nodeId, this.#measuredWith(nodeId)));
  }

  /** From one node to others, in their order. */
  linksOf(from: NodeId, others: readonly NodeId[]): readonly KnownLink[] {
    return others.map((to) => ({
      ...{ from, to, carrier: this.#table.carrierOf(from, to) },
      isBandwidthMeasured: this.#table.isBandwidthMeasured(from, to),
      ...this.estimate(from, to),
    }));
  }

  /** What a plan knows of a node's links: those measured, then its neighbours in one network and in one region. */
  factsOf(nodeId: NodeId): readonly LinkFact[] {
    const nowMs = this.#ports.clock.monoMs();
    const known = this.#facts.get(nodeId);
    if (known !== undefined && nowMs < known.untilMs) return known.links;
    const links = this.#makeFacts(nodeId);
    const spreadMs = Number.parseInt(nodeId.slice(-4), 16) % FACTS_AGE_MS;
    this.#facts.set(nodeId, { links, untilMs: nowMs + FACTS_AGE_MS + spreadMs });
    return links;
  }

  #makeFacts(nodeId: NodeId): readonly LinkFact[] {
    this.#readNodes();
    const view = this.#ports.roster.node(nodeId);
    const near = (key: string | null) => (key === null ? [] : (this.#neighbours.get(key) ?? []));
    const measured = this.#measuredWith(nodeId).slice(0, PLANNED_LINKS_MAX);
    const others = new Set(measured);
    const countMax = Math.min(PLANNED_LINKS_MAX, measured.length + PLANNED_ESTIMATES_MAX);
    for (const other of [...near(networkKey(view?.network)), ...near(regionKey(view?.region))]) {
      if (others.size >= countMax) break;
      if (other !== nodeId) others.add(other);
    }
    return [...others].map((to) => {
      const { rttMs, bytesPerSecond } = this.estimate(nodeId, to);
      return { to, rttMs, bytesPerSecond };
    });
  }

  #measuredWith(nodeId: NodeId): readonly NodeId[] {
    const isThere = (other: NodeId) => (this.#ports.roster.node(other)?.state ?? "offline") !== "offline";
    return this.#table
      .measuredWith(nodeId)
      .filter(isThere)
      .sort((a, b) => (a < b ? -1 : 1));
  }

  #heard(nodeId: NodeId, { links }: Extract<PeerMessage, { type: "peer.links" }>): void {
    const nowMs = this.#ports.clock.monoMs();
    if (!this.#mayReport(nodeId, nowMs)) {
      this.#dropped += 1;
      return;
    }
    this.#readNodes();
    this.#reports += 1;
    for (const { nodeId: other, carrier, rttMs, lossShare, bytesPerSecond } of links) {
      const quality = { carrier, rttMs, lossShare, bytesPerSecond, measuredAtMs: nowMs };
      this.#table.report(nodeId, asNodeId(other), quality);
      this.#facts.delete(asNodeId(other));
    }
    this.#facts.delete(nodeId);
  }

  #mayReport(nodeId: NodeId, nowMs: number): boolean {
    const known = this.#tokens.get(nodeId) ?? { left: REPORTS_BURST_MAX, atMs: nowMs };
    const refilled = known.left + ((nowMs - known.atMs) / 1_000) * REPORTS_PER_SECOND_MAX;
    const left = Math.min(REPORTS_BURST_MAX, refilled);
    this.#tokens.set(nodeId, { left: left >= 1 ? left - 1 : left, atMs: nowMs });
    return left >= 1;
  }

  #gone(nodeId: NodeId): void {
    this.#tokens.delete(nodeId);
    this.#facts.delete(nodeId);
    if (this.#ports.roster.node(nodeId) === null) this.#table.dropNode(nodeId);
    this.#forgetNodes();
  }

  /** Read again when somebody asks. */
  #forgetNodes(): void {
    this.#readAtMs = Number.NEGATIVE_INFINITY;
  }

  #readNodes(): void {
    const nowMs = this.#ports.clock.monoMs();
    if (nowMs - this.#readAtMs < NODES_AGE_MS) return;
    this.#readAtMs = nowMs;
    this.#neighbours.clear();
    const views = this.#ports.roster.nodes();
    const offline = views.filter(({ state }) => state === "offline");
    for (const { nodeId, state, rttMs, region = null, network = null } of views) {
      if (state === "offline") continue;
      const node = { nodeId, coordinatorRttMs: rttMs, region, network };
      // A full table gives up those who are not there.
      if (!this.#table.setNode(node)) {
        for (const gone of offline.splice(0)) this.#table.dropNode(gone.nodeId);
        this.#table.setNode(node);
      }
      this.#addNeighbour(networkKey(network), nodeId);
      this.#addNeighbour(regionKey(region), nodeId);
    }
  }

  #addNeighbour(key: string | null, nodeId: NodeId): void {
    if (key === null) return;
    const members = this.#neighbours.get(key);
    if (members === undefined) this.#neighbours.set(key, [nodeId]);
    else if (members.length <= PLANNED_ESTIMATES_MAX) members.push(nodeId);
  }
}

function networkKey(network: string | null | undefined): string | null {
  return network === null || network === undefined ? null : `network ${network}`;
}

function regionKey(region: string | null | undefined): string | null {
  return region === null || region === undefined ? null : `region ${region}`;
}
