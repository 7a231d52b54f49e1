/**
 * Relayed connections: who may have one, who may take which end, and what they cost. The coordinator moves ciphertext only: the two nodes prove
 * their keys to each other inside the pipe, so it can neither read along nor stand in for one of them.
 *
 * | a relay is  | event                           | then                                        |
 * | ----------- | ------------------------------- | ------------------------------------------- |
 * | –           | `relay.ask`, allowed            | offered: both nodes get `relay.offer`       |
 * | offered     | an end is taken by its node     | offered, that end waits unread              |
 * | offered     | the second end is taken         | piping                                      |
 * | offered     | `offerMsMax` passes             | over                                        |
 * | piping      | an end closes; idle; too old    | over: both ends are closed                  |
 * | any         | a node's session ends           | over                                        |
 */

import { toHex } from "../../domain/hex.ts";
import { type NodeId, nodeId } from "../../domain/ids.ts";
import type { Clock } from "../../ports/clock.ts";
import type { Log } from "../../ports/log.ts";
import type { Random } from "../../ports/random.ts";
import type { RelayEnd } from "../../ports/relay.ts";
import type { PeerMessage, Roster } from "../roster.ts";
import { ByteRate, DayBytes } from "./byte-meter.ts";
import { RELAY_OPTIONS, type RelayOptions } from "./relay-options.ts";
import { RelayPipe } from "./relay-pipe.ts";

export interface RelayDeskPorts {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly roster: Roster;
  readonly sessions: { nodeOfBearer(bearer: string): NodeId | null };
}

export interface RelayStats {
  readonly offered: number;
  readonly piping: number;
  readonly bytes: number;
  /** By code, since the start. */
  readonly refused: Readonly<Record<string, number>>;
}

/** An end that a node may take. */
export interface RelaySeat {
  readonly relayId: string;
  readonly nodeId: NodeId;
  take(end: RelayEnd): void;
}
export type SeatAnswer =
  | { readonly ok: true; readonly seat: RelaySeat }
  | { readonly ok: false; readonly status: 401 | 403 | 404 | 409; readonly code: string };

interface Relay {
  readonly relayId: string;
  /** The one that asked comes first. */
  readonly nodes: readonly [NodeId, NodeId];
  readonly bornMs: number;
  lastBytesMs: number;
  readonly ends: [RelayEnd | null, RelayEnd | null];
  readonly isTaken: [boolean, boolean];
  pipe: RelayPipe | null;
}

const RELAY_ID_BYTES = 16;
/** Nodes whose bytes of the day are known, those that were relayed for last. */
const DAYS_MAX = 10_000;
/** How often relays are looked at for their bounds on time. */
const SWEEP_MS = 2_000;

export class RelayDesk {
  readonly #ports: RelayDeskPorts;
  readonly #options: RelayOptions;
  readonly #relays = new Map<string, Relay>();
  readonly #rates = new Map<NodeId, ByteRate>();
  readonly #days = new Map<NodeId, DayBytes>();
  readonly #refused = new Map<string, number>();
  readonly #allRate: ByteRate;
  #bytes = 0;
  #sweep: { cancel(): void } | null = null;
  #isStopped = false;

  constructor(ports: RelayDeskPorts, options: Partial<RelayOptions> = {}) {
    this.#ports = ports;
    this.#options = { ...RELAY_OPTIONS, ...options };
    this.#allRate = new ByteRate(this.#options.bytesPerSecondInAll, ports.clock.monoMs());
    const nothing = () => undefined;
    ports.roster.subscribe({
      onOnline: nothing,
      onSuspect: nothing,
      onWithdrawn: nothing,
      onWork: nothing,
      onReplicas: nothing,
      onGone: (nodeId, cause) => this.#gone(nodeId, cause),
      onPeer: (nodeId, message) => {
        if (message.type === "relay.ask") this.#ask(nodeId, message);
      },
    });
  }

  /** Whether the bearer's node may take an end of the relay at this time. */
  seat(relayId: string, bearer: string): SeatAnswer {
    const nodeId = this.#ports.sessions.nodeOfBearer(bearer);
    if (nodeId === null) return { ok: false, status: 401, code: "invalid-key" };
    const relay = this.#relays.get(relayId);
    if (relay === undefined) return { ok: false, status: 404, code: "relay-unknown" };
    const at = relay.nodes.indexOf(nodeId);
    if (at !== 0 && at !== 1) return { ok: false, status: 403, code: "relay-not-yours" };
    if (relay.isTaken[at]) return { ok: false, status: 409, code: "relay-end-taken" };
    relay.isTaken[at] = true;
    return { ok: true, seat: { relayId, nodeId, take: (end) => this.#take(relay, at, end) } };
  }

  stats(): RelayStats {
    let piping = 0;
    for (const { pipe } of this.#relays.values()) if (pipe !== null) piping++;
    return {
      offered: this.#relays.size - piping,
      piping,
      bytes: this.#bytes,
      refused: Object.fromEntries([...this.#refused].sort(([a], [b]) => (a < b ? -1 : 1))),
    };
  }

  /** Of the connections that the node asked for, in the last 24 hours. */
  bytesOfDay(nodeId: NodeId): number {
    return this.#days.get(nodeId)?.sum(this.#ports.clock.wallMs()) ?? 0;
  }

  /** Ends all relays. May be called twice. */
  stop(): void {
    this.#isStopped = true;
    this.#sweep?.cancel();
    for (const relay of [...this.#relays.values()]) this.#end(relay, "the coordinator stops");
  }

  #ask(from: NodeId, { nodeId: to, askId }: Extract<PeerMessage, { type: "relay.ask" }>): void {
    const { roster, random, clock } = this.#ports;
    const other = roster.node(nodeId(to));
    const asking = roster.node(from);
    const refusal = this.#refusal(from, to, other !== null && other.state !== "offline");
    if (refusal !== null || other === null || asking === null) {
      const { code, message } = refusal ?? UNKNOWN_NODE;
      this.#refused.set(code, (this.#refused.get(code) ?? 0) + 1);
      roster.send(from, { type: "relay.refused", askId, code, message });
      return;
    }
    const relay: Relay = {
      relayId: toHex(random.bytes(RELAY_ID_BYTES)),
      nodes: [from, other.nodeId],
      bornMs: clock.monoMs(),
      lastBytesMs: clock.monoMs(),
      ends: [null, null],
      isTaken: [false, false],
      pipe: null,
    };
    this.#relays.set(relay.relayId, relay);
    const { relayId } = relay;
    const offer = { type: "relay.offer", relayId } as const;
    const isSent =
      roster.send(other.nodeId, { ...offer, askId: null, nodeId: from, publicKey: asking.publicKeyHex }) &&
      roster.send(from, { ...offer, askId, nodeId: other.nodeId, publicKey: other.publicKeyHex });
    if (!isSent) this.#end(relay, "a node has no open link");
    this.#sweepLater();
  }

  #refusal(from: NodeId, to: string, isOnline: boolean): { code: string; message: string } | null {
    const { relaysMax, askedPerNodeMax, perPairMax, perNodeMax, bytesPerDayOfNode } = this.#options;
    if (from === to) return { code: "relay-to-itself", message: "a node needs no relay to itself" };
    if (!isOnline) return UNKNOWN_NODE;
    const relays = [...this.#relays.values()];
    if (this.#isStopped || relays.length >= relaysMax) {
      return { code: "relay-full", message: `${relays.length} relayed connections are open: try again later` };
    }
    const asked = relays.filter(({ nodes }) => nodes[0] === from).length;
    const ofPair = relays.filter(({ nodes }) => nodes.some((id) => id === from) && nodes.some((id) => id === to));
    const ofOther = relays.filter(({ nodes }) => nodes.some((id) => id === to)).length;
    if (asked >= askedPerNodeMax || ofPair.length >= perPairMax || ofOther >= perNodeMax) {
      return {
        code: "relay-node-full",
        message: `one of the nodes has its ${askedPerNodeMax} relayed connections (${perPairMax} of a pair) already`,
      };
    }
    const spent = this.bytesOfDay(from);
    if (spent < bytesPerDayOfNode) return null;
    return {
      code: "relay-budget-spent",
      message: `${spent} bytes were relayed for the node in 24 hours, and ${bytesPerDayOfNode} is the bound: use another way for bulk`,
    };
  }

  #take(relay: Relay, at: 0 | 1, end: RelayEnd): void {
    if (!this.#relays.has(relay.relayId)) {
      end.close("the relay ended");
      return;
    }
    relay.ends[at] = end;
    const [first, second] = relay.ends;
    if (first === null || second === null) return;
    const { clock } = this.#ports;
    relay.lastBytesMs = clock.monoMs();
    relay.pipe = new RelayPipe([first, second], {
      take: (bytes, from) => this.#count(relay, bytes, from),
      setTimer: (delayMs, fire) => clock.setTimer(delayMs, fire),
      onEnd: (cause) => this.#end(relay, cause),
    });
  }

  #count(relay: Relay, bytes: number, from: 0 | 1): number | null {
    const { clock } = this.#ports;
    const nowMs = clock.monoMs();
    relay.lastBytesMs = nowMs;
    this.#bytes += bytes;
    const day = this.#days.get(relay.nodes[0]) ?? new DayBytes();
    this.#days.delete(relay.nodes[0]);
    this.#days.set(relay.nodes[0], day);
    const [oldest] = this.#days.keys();
    if (this.#days.size > DAYS_MAX && oldest !== undefined) this.#days.delete(oldest);
    day.add(bytes, clock.wallMs());
    if (day.sum(clock.wallMs()) > this.#options.bytesPerDayOfNode) return null;
    const sender = relay.nodes[from];
    const rate = this.#rates.get(sender) ?? new ByteRate(this.#options.bytesPerSecondOfNode, nowMs);
    this.#rates.set(sender, rate);
    return Math.max(rate.take(bytes, nowMs), this.#allRate.take(bytes, nowMs));
  }

  #gone(nodeId: NodeId, cause: string): void {
    this.#rates.delete(nodeId);
    for (const relay of [...this.#relays.values()]) {
      if (relay.nodes.includes(nodeId)) this.#end(relay, `a node left: ${cause}`);
    }
  }

  #end(relay: Relay, cause: string): void {
    if (!this.#relays.delete(relay.relayId)) return;
    if (relay.pipe !== null) relay.pipe.close(cause);
    else for (const end of relay.ends) end?.close(cause);
    this.#ports.log.debug({ relayId: relay.relayId, nodes: relay.nodes, cause }, "relay over");
  }

  #sweepLater(): void {
    if (this.#sweep !== null || this.#isStopped) return;
    this.#sweep = this.#ports.clock.setTimer(SWEEP_MS, () => {
      this.#sweep = null;
      const nowMs = this.#ports.clock.monoMs();
      for (const relay of [...this.#relays.values()]) {
        const why = this.#overdue(relay, nowMs);
        if (why !== null) this.#end(relay, why);
      }
      if (this.#relays.size > 0) this.#sweepLater();
    });
  }

  #overdue({ pipe, bornMs, lastBytesMs }: Relay, nowMs: number): string | null {
    const { offerMsMax, idleMsMax, lifeMsMax } = this.#options;
    if (pipe === null) return nowMs - bornMs > offerMsMax ? "the other end did not come" : null;
    if (nowMs - lastBytesMs > idleMsMax) return "idle";
    return nowMs - bornMs > lifeMsMax ? "too old: open another" : null;
  }
}

const UNKNOWN_NODE = { code: "relay-node-offline", message: "the grid has no such node online" };
