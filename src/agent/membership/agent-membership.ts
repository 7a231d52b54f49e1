/**
 * Keeps the agent in its grid: dials, proves its key, beats, and dials again whenever the link ends, for ever, unless it is
 * refused for good. The runner works through the line while there is one.
 *
 * | status     | link up | link lost         | refused for good | wait over  | stop    |
 * | ---------- | ------- | ----------------- | ---------------- | ---------- | ------- |
 * | connecting | online  | waiting           | refused          | -          | stopped |
 * | online     | -       | waiting           | refused          | -          | stopped |
 * | waiting    | -       | -                 | -                | connecting | stopped |
 * | refused    | -       | -                 | -                | -          | stopped |
 *
 * Waits are exponential with full jitter, so that a grid's agents do not come back in one instant when the coordinator starts
 * again. Only the monotonic clock decides; a wall clock that jumps changes nothing.
 */
import { describeFault } from "../../domain/fault.ts";
import type { NodeCapabilities } from "../../domain/hardware.ts";
import type { NodeId } from "../../domain/ids.ts";
import { nodeIdOf } from "../../domain/node-id.ts";
import { type Clock, pause } from "../../ports/clock.ts";
import type { Crypto, KeyPair } from "../../ports/crypto.ts";
import type { Link, LinkDialer, LinkTarget } from "../../ports/link.ts";
import type { Log } from "../../ports/log.ts";
import type { Random } from "../../ports/random.ts";
import { backoffMs } from "../../scheduler/retries/backoff.ts";
import type { PeerHandler, WorkHandler } from "../session.ts";
import { AgentLinkSession } from "./agent-link-session.ts";
import type { LinkEnd } from "./link-end.ts";

export interface MembershipOptions {
  readonly name: string;
  readonly region?: string | null;
  readonly priceMicroUsdPerHour?: number | null;
  readonly target: LinkTarget;
  /** The grid that the join code names; null to take the one that answers. */
  readonly gridId: string | null;
  /** What that grid signs with, from an earlier life of this node in it; another key is refused. */
  readonly gridPublicKeyHex?: string | null;
  /** Secret of a join code; not used any more once the node is known. */
  readonly joinToken: string | null;
  /** Of this program. */
  readonly version: string;
  readonly onStatus?: (status: MembershipStatus) => void;
}

export interface MembershipPorts {
  readonly dialer: LinkDialer;
  readonly clock: Clock;
  readonly crypto: Crypto;
  readonly random: Random;
  readonly log: Log;
  readonly keyPair: KeyPair;
  /** As measured last; asked at each connection. */
  readonly capabilities: () => NodeCapabilities;
  readonly work: WorkHandler;
  /** Deals with other nodes; without it the node knows the coordinator alone. */
  readonly peers?: PeerHandler;
}

export type MembershipStatus =
  | { readonly kind: "connecting" }
  | {
      readonly kind: "online";
      readonly nodeId: NodeId;
      readonly gridId: string;
      /** What the grid signs with; absent where it signs nothing. */
      readonly gridPublicKeyHex?: string;
    }
  | { readonly kind: "waiting"; readonly retryInMs: number; readonly cause: string }
  /** For good: the code is stable, the message is for the owner. */
  | { readonly kind: "refused"; readonly code: string; readonly message: string }
  | { readonly kind: "stopped" };

/** A coordinator that starts again is met by all within 10 s; one that stays away costs 12 attempts a minute. */
export const RECONNECT = { baseMs: 500, capMs: 10_000 } as const;
/** A link that lasted so long was good: the next wait begins small again. */
export const STABLE_MS = 5_000;
/** How often a leaving agent looks whether its attempts are done. */
const LEAVE_LOOK_MS = 100;

export class AgentMembership {
  readonly nodeId: NodeId;
  readonly #options: MembershipOptions;
  readonly #ports: MembershipPorts;
  readonly #stopping = new AbortController();
  #status: MembershipStatus = { kind: "connecting" };
  #gridPublicKeyHex: string | null;
  #session: AgentLinkSession | null = null;
  #isLeaving = false;
  #running: Promise<void> | null = null;

  constructor(options: MembershipOptions, ports: MembershipPorts) {
    this.#options = options;
    this.#ports = ports;
    this.#gridPublicKeyHex = options.gridPublicKeyHex ?? null;
    this.nodeId = nodeIdOf(ports.crypto.sha256(ports.keyPair.publicKey));
  }

  get status(): MembershipStatus {
    return this.#status;
  }

  /** Begins to connect. Called once. */
  start(): void {
    this.#running ??= this.#run();
  }

  /** Sends a heartbeat at once: the owner is back or away, and the coordinator should not learn it a second later. */
  beatNow(): void {
    this.#session?.beat();
  }

  /**
   * Leaves the grid's plans. With `drainMs` above 0 running attempts may finish for so long, while no new ones come; then the
   * agent says goodbye. May be called twice; the second call can shorten nothing.
   */
  async stop(options: { drainMs: number }): Promise<void> {
    const { clock } = this.#ports;
    if (options.drainMs > 0 && this.#status.kind === "online") {
      this.#isLeaving = true;
      this.#session?.beat();
      const untilMs = clock.monoMs() + options.drainMs;
      while (this.#status.kind === "online" && this.#isBusy() && clock.monoMs() < untilMs) {
        await pause(clock, LEAVE_LOOK_MS, this.#stopping.signal);
      }
    }
    this.#stopping.abort();
    this.#session?.leave("the agent stops");
    await this.#running;
    this.#tell({ kind: "stopped" });
  }

  #isBusy(): boolean {
    return this.#ports.work.replicas().some((replica) => replica.slotsBusy > 0 || replica.queued > 0);
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    let failures = 0;
    while (!signal.aborted) {
      this.#tell({ kind: "connecting" });
      const { end, onlineMs } = await this.#connectOnce(signal);
      if (signal.aborted) return;
      if (end.kind === "refused") {
        this.#ports.log.info({ code: end.code, reason: end.message }, "refused by the grid");
        this.#tell(end);
        return;
      }
      failures = onlineMs >= STABLE_MS ? 0 : failures;
      const waitMs = backoffMs({ failures, draw: this.#ports.random.fraction() }, RECONNECT);
      failures += 1;
      const retryInMs = Math.round(end.retryAfterMs + waitMs);
      this.#ports.log.warn({ cause: end.cause, retryInMs, failures }, "link lost");
      this.#tell({ kind: "waiting", retryInMs, cause: end.cause });
      await pause(this.#ports.clock, retryInMs, signal);
    }
  }

  async #connectOnce(signal: AbortSignal): Promise<{ end: LinkEnd; onlineMs: number }> {
    const { dialer, capabilities } = this.#ports;
    const { target, gridId, name, region, priceMicroUsdPerHour, version, joinToken } = this.#options;
    let link: Link;
    try {
      link = await dialer.dial(target, signal);
    } catch (thrown) {
      return { end: { kind: "lost", cause: describeFault(thrown), retryAfterMs: 0 }, onlineMs: 0 };
    }
    return await new Promise((resolve) => {
      const session = new AgentLinkSession(link, {
        ...this.#ports,
        peers: this.#ports.peers ?? null,
        gridId,
        gridPublicKeyHex: this.#gridPublicKeyHex,
        name,
        region: region ?? null,
        priceMicroUsdPerHour: priceMicroUsdPerHour ?? null,
        agentVersion: version,
        joinToken,
        capabilities,
        isLeaving: () => this.#isLeaving,
        onOnline: ({ nodeId, gridId: joined, welcome }) => {
          this.#gridPublicKeyHex ??= welcome.gridPublicKey ?? null;
          const key = this.#gridPublicKeyHex;
          this.#tell({ kind: "online", nodeId, gridId: joined, ...(key === null ? {} : { gridPublicKeyHex: key }) });
        },
        onOver: (end, onlineMs) => {
          this.#session = null;
          resolve({ end, onlineMs });
        },
      });
      this.#session = session;
      session.start();
      if (signal.aborted) session.leave("the agent stops");
    });
  }

  #tell(status: MembershipStatus): void {
    this.#status = status;
    this.#options.onStatus?.(status);
  }
}
