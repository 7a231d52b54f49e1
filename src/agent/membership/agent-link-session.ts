/**
 * One link of an agent to its coordinator, from the challenge to the end.
 *
 * | phase              | challenge            | welcome | refused | other message  | silence          | link closes |
 * | ------------------ | -------------------- | ------- | ------- | -------------- | ---------------- | ----------- |
 * | awaiting-challenge | hello, next phase    | over    | over    | over           | over at deadline | over        |
 * | awaiting-welcome   | over                 | online  | over    | over           | over at deadline | over        |
 * | online             | over                 | over    | over    | work, or noted | over at deadMs   | over        |
 *
 * The agent names its key only to a coordinator whose certificate the dialer has checked, and signs the certificate's
 * fingerprint with it, so a proof that somebody in between passes on is worth nothing.
 */
import { absurd } from "../../domain/assert.ts";
import { describeFault } from "../../domain/fault.ts";
import type { NodeCapabilities } from "../../domain/hardware.ts";
import { LIVENESS } from "../../domain/node.ts";
import { nodeIdOf } from "../../domain/node-id.ts";
import { toHex } from "../../market/hex.ts";
import type { Clock, Timer } from "../../ports/clock.ts";
import type { Crypto, KeyPair } from "../../ports/crypto.ts";
import { LINK_CLOSE, type Link } from "../../ports/link.ts";
import { FAULT_AT_LINK, type Log } from "../../ports/log.ts";
import {
  bornPulse,
  credited,
  heard,
  judged,
  ownPauseMs,
  type Pulse,
} from "../../scheduler/liveness/failure-detector.ts";
import {
  type AgentMessage,
  type Challenge,
  type CoordinatorMessage,
  coordinatorMessageSchema,
  LINK_PROTOCOL_VERSION,
  linkProofText,
  type Welcome,
} from "../../wire/agent-link.ts";
import { GRID_ID_PATTERN } from "../../wire/join-code.ts";
import { parseJson, whyNot } from "../../wire/json-frame.ts";
import type { Line, PeerHandler, WorkHandler } from "../session.ts";
import { endOfClose, type LinkEnd, readChallenge } from "./link-end.ts";

/** Longer than the coordinator's own deadline, so that its refusal arrives first. */
export const WELCOME_MS_MAX = 8_000;

export interface AgentLinkDuties {
  /** The grid that the join code named; null when the agent was told an address only. */
  readonly gridId: string | null;
  /** What the grid signed with when this node met it first; null before that. */
  readonly gridPublicKeyHex: string | null;
  readonly name: string;
  readonly region: string | null;
  readonly priceMicroUsdPerHour: number | null;
  readonly agentVersion: string;
  readonly joinToken: string | null;
  readonly keyPair: KeyPair;
  readonly clock: Clock;
  readonly crypto: Crypto;
  readonly work: WorkHandler;
  readonly peers: PeerHandler | null;
  readonly log: Log;
  capabilities(): NodeCapabilities;
  isLeaving(): boolean;
  onOnline(line: Line): void;
  /** Called once; `onlineMs` is 0 when it never was. */
  onOver(end: LinkEnd, onlineMs: number): void;
}

export class AgentLinkSession {
  readonly #link: Link;
  readonly #duties: AgentLinkDuties;
  #phase: "awaiting-challenge" | "awaiting-welcome" | "online" | "over" = "awaiting-challenge";
  #gridId = "";
  #timer: Timer | null = null;
  #pulse: Pulse;
  #lastLookMs: number;
  #receivedBytes = 0;
  #onlineSinceMs: number | null = null;
  #heartbeatMs: number = LIVENESS.heartbeatMs;
  #seq = 0;
  #sent: { readonly seq: number; readonly atMs: number } | null = null;
  #rttMs: number | null = null;

  constructor(link: Link, duties: AgentLinkDuties) {
    this.#link = link;
    this.#duties = duties;
    this.#lastLookMs = duties.clock.monoMs();
    this.#pulse = bornPulse(this.#lastLookMs);
  }

  start(): void {
    this.#timer = this.#duties.clock.setTimer(WELCOME_MS_MAX, () => {
      this.#cut({
        kind: "lost",
        cause: `no welcome from the coordinator within ${WELCOME_MS_MAX} ms`,
        retryAfterMs: 0,
      });
    });
    this.#link.listen({
      onFrame: (frame) => this.#contained(() => this.#onFrame(frame)),
      onClose: (code, reason) => this.#contained(() => this.#over(endOfClose(code, reason))),
    });
  }

  /** Tells the coordinator at once what the next heartbeat would say: the owner is back, or the node is about to leave. */
  beat(): void {
    if (this.#phase !== "online") return;
    const { clock, work, isLeaving } = this.#duties;
    const seq = this.#seq++;
    this.#sent ??= { seq, atMs: clock.monoMs() };
    this.#send({
      type: "heartbeat",
      seq,
      sentAtMs: Math.max(0, clock.wallMs()),
      isYielding: work.isYielding(),
      memoryFreeBytes: Math.max(0, Math.floor(work.memoryFreeBytes())),
      replicas: [...work.replicas()],
      rttMs: this.#rttMs,
      isLeaving: isLeaving(),
    });
  }

  /** Says goodbye and closes. */
  leave(reason: string): void {
    if (this.#phase === "online") this.#send({ type: "goodbye", reason });
    this.#link.close(LINK_CLOSE.normal, reason);
    this.#over({ kind: "lost", cause: reason, retryAfterMs: 0 });
  }

  /**
   * The border at which a bug met while handling the coordinator's link ends that link, not the agent and its engines
   * (docs/decisions/0011-bugs-end-a-link-or-a-request.md).
   */
  #contained(handle: () => void): void {
    try {
      handle();
    } catch (thrown) {
      const cause = describeFault(thrown);
      const stack = thrown instanceof Error ? thrown.stack : undefined;
      this.#duties.log.error({ cause, stack }, FAULT_AT_LINK);
      this.#link.close(LINK_CLOSE.protocolError, "the agent failed at what the coordinator sent");
      this.#over({ kind: "lost", cause: `the agent failed at what the coordinator sent: ${cause}`, retryAfterMs: 0 });
    }
  }

  #onFrame(frame: string): void {
    if (this.#phase === "over") return;
    const value = parseJson(frame);
    if (this.#phase === "awaiting-challenge") {
      const challenge = readChallenge(value);
      if (!challenge.ok) this.#fail(challenge.reason);
      else if (challenge.value !== null) this.#onChallenge(challenge.value);
      else this.#onMalformed("something that is no challenge");
      return;
    }
    const parsed = coordinatorMessageSchema.safeParse(value);
    if (!parsed.success) {
      this.#onMalformed(whyNot(parsed.error));
      return;
    }
    if (this.#phase === "online") {
      this.#hear(this.#duties.clock.monoMs());
      this.#onMessage(parsed.data);
    } else if (parsed.data.type === "welcome") {
      this.#onWelcome(parsed.data);
    } else if (parsed.data.type === "refused") {
      this.#onMessage(parsed.data);
    } else {
      this.#onMalformed(`a ${parsed.data.type} before the welcome`);
    }
  }

  #onChallenge({ gridId, nonce }: Challenge): void {
    const duties = this.#duties;
    if (!GRID_ID_PATTERN.test(gridId)) {
      this.#onMalformed("a grid id that is none");
      return;
    }
    if (duties.gridId !== null && duties.gridId !== gridId) {
      const message = `the join code is for the grid ${duties.gridId}, and this coordinator runs ${gridId}`;
      this.#fail({ kind: "refused", code: "grid-foreign", message });
      return;
    }
    this.#gridId = gridId;
    this.#phase = "awaiting-welcome";
    const publicKey = toHex(duties.keyPair.publicKey);
    const proof = linkProofText({ gridId, nonce, publicKey, channelBinding: this.#link.channelBinding });
    const capabilities = duties.capabilities();
    this.#send({
      type: "hello",
      protocolVersion: LINK_PROTOCOL_VERSION,
      publicKey,
      signature: toHex(duties.keyPair.sign(new TextEncoder().encode(proof))),
      joinToken: duties.joinToken,
      name: duties.name,
      ...(duties.region === null ? {} : { region: duties.region }),
      ...(duties.priceMicroUsdPerHour === null ? {} : { priceMicroUsdPerHour: duties.priceMicroUsdPerHour }),
      agentVersion: duties.agentVersion,
      capabilities: { ...capabilities, devices: [...capabilities.devices] },
      replicas: [...duties.work.replicas()],
    });
  }

  #onWelcome(welcome: Welcome): void {
    const { clock, crypto, keyPair, work, peers, onOnline } = this.#duties;
    const nodeId = nodeIdOf(crypto.sha256(keyPair.publicKey));
    if (welcome.nodeId !== nodeId) {
      this.#onMalformed("a welcome for another node");
      return;
    }
    const { gridPublicKeyHex: knownKey } = this.#duties;
    if (knownKey !== null && welcome.gridPublicKey !== undefined && welcome.gridPublicKey !== knownKey) {
      // Weights and grants are believed by this key: whoever changes it could have this node run what he likes.
      const message = `this grid signed with ${knownKey} so far, and now with ${welcome.gridPublicKey}: somebody sits in between, or the grid was set up anew`;
      this.#fail({ kind: "refused", code: "grid-key-changed", message });
      return;
    }
    this.#phase = "online";
    this.#timer?.cancel();
    this.#heartbeatMs = welcome.heartbeatMs;
    const nowMs = clock.monoMs();
    this.#onlineSinceMs = nowMs;
    this.#pulse = bornPulse(nowMs);
    this.#lastLookMs = nowMs;
    const line: Line = {
      gridId: this.#gridId,
      nodeId,
      welcome,
      keyPair,
      send: (message) => {
        if (this.#phase === "online") this.#send(message);
      },
      bufferedBytes: () => this.#link.bufferedBytes(),
    };
    this.beat();
    this.#arm();
    peers?.onLineUp(line);
    work.onLineUp(line);
    onOnline(line);
  }

  #onMessage(message: CoordinatorMessage): void {
    switch (message.type) {
      case "heartbeat.ack":
        if (this.#sent === null || message.seq < this.#sent.seq) return;
        this.#rttMs = Math.max(0, this.#duties.clock.monoMs() - this.#sent.atMs);
        this.#sent = null;
        return;
      case "refused":
        this.#fail(
          message.canRetry
            ? { kind: "lost", cause: message.message, retryAfterMs: message.retryAfterMs ?? 0 }
            : { kind: "refused", code: message.code, message: message.message },
        );
        return;
      case "challenge":
      case "welcome":
        this.#onMalformed(`a second ${message.type}`);
        return;
      case "replica.load":
      case "replica.unload":
      case "attempt.start":
      case "attempt.cancel":
      case "weights.stage":
      case "chain.set":
      case "chain.fingerprint.ask":
      case "chain.progress.ask":
      case "chain.over":
      case "node.drain":
        this.#duties.work.onOrder(message);
        return;
      case "weights.holders":
      case "weights.claimed":
      case "relay.offer":
      case "relay.refused":
        this.#duties.peers?.onPeerOrder(message);
        return;
      default:
        absurd(message);
    }
  }

  #arm(): void {
    this.#timer = this.#duties.clock.setTimer(this.#heartbeatMs, () => {
      const nowMs = this.#duties.clock.monoMs();
      const pausedMs = ownPauseMs({ lastLookMs: this.#lastLookMs, nowMs, plannedMs: this.#heartbeatMs });
      this.#lastLookMs = nowMs;
      // Part of a long prompt came in: the coordinator is alive, its frame is only not whole yet.
      if ((this.#link.receivedBytes?.() ?? 0) > this.#receivedBytes) this.#hear(nowMs);
      this.#pulse = judged(credited(this.#pulse, pausedMs, nowMs), nowMs, LIVENESS);
      if (this.#pulse.verdict === "dead") {
        const silentMs = Math.round(nowMs - this.#pulse.lastHeardMs);
        this.#cut({ kind: "lost", cause: `the coordinator was silent for ${silentMs} ms`, retryAfterMs: 0 });
        return;
      }
      this.#arm();
      this.beat();
    });
  }

  #hear(nowMs: number): void {
    this.#pulse = heard(this.#pulse, nowMs);
    this.#receivedBytes = this.#link.receivedBytes?.() ?? 0;
  }

  #onMalformed(what: string): void {
    this.#link.close(LINK_CLOSE.protocolError, what);
    this.#over({ kind: "lost", cause: `the coordinator sent ${what}`, retryAfterMs: 0 });
  }

  #fail(end: LinkEnd): void {
    this.#link.close(LINK_CLOSE.normal, "");
    this.#over(end);
  }

  #cut(end: LinkEnd): void {
    this.#link.destroy();
    this.#over(end);
  }

  #over(end: LinkEnd): void {
    if (this.#phase === "over") return;
    this.#phase = "over";
    this.#timer?.cancel();
    const { clock, work, peers, onOver } = this.#duties;
    try {
      if (this.#onlineSinceMs !== null) {
        work.onLineDown();
        peers?.onLineDown();
      }
    } catch (thrown) {
      // Membership must hear of the end all the same, or the agent would never connect again.
      this.#duties.log.error({ cause: describeFault(thrown) }, FAULT_AT_LINK);
    }
    onOver(end, this.#onlineSinceMs === null ? 0 : clock.monoMs() - this.#onlineSinceMs);
  }

  #send(message: AgentMessage): void {
    this.#link.send(JSON.stringify(message));
  }
}
