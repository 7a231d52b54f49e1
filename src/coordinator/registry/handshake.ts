/**
 * A link until its other end has proved who it is.
 *
 * | phase          | frame                   | deadline passes | link closes | admitted    | turned away |
 * | -------------- | ----------------------- | --------------- | ----------- | ----------- | ----------- |
 * | awaiting-hello | good hello: deciding    | over, refused   | over        | -           | -           |
 * |                | anything else: over     |                 |             |             |             |
 * | deciding       | over: it must wait      | over, refused   | over        | handed-over | over        |
 * | handed-over    | goes to the session     | -               | to session  | bug         | bug         |
 * | over           | ignored: link is closed | -               | ignored     | ignored     | ignored     |
 *
 * Every other step costs the stranger more than us: one nonce, then one signature check for one signature.
 */
import { assert } from "../../domain/assert.ts";
import { describeFault } from "../../domain/fault.ts";
import type { NodeId } from "../../domain/ids.ts";
import { toHex } from "../../market/hex.ts";
import type { Clock, Timer } from "../../ports/clock.ts";
import type { Crypto } from "../../ports/crypto.ts";
import { LINK_CLOSE, type Link, type LinkHandlers } from "../../ports/link.ts";
import { FAULT_AT_LINK, type Log } from "../../ports/log.ts";
import type { Random } from "../../ports/random.ts";
import { type CoordinatorMessage, type Hello, LINK_PROTOCOL_VERSIONS } from "../../wire/agent-link.ts";
import { proveHello, readHello } from "./hello.ts";
import { type LinkRefusal, refusal } from "./link-refusal.ts";

/** From the challenge to the welcome: some round trips of a bad link, a signature, and one commit of the store. */
export const HANDSHAKE_MS_MAX = 5_000;
const NONCE_BYTES = 32;
/** A fault of our own side (the store failed) is worth trying again after so long. */
const FAULT_RETRY_MS = 2_000;

export interface HandshakeDuties {
  readonly gridId: string;
  readonly clock: Clock;
  readonly crypto: Crypto;
  readonly random: Random;
  readonly log: Log;
  /**
   * Decides about a node that proved its key. To let it in, calls `takeOver` (false: the link closed meanwhile, forget it) and
   * answers null; else answers the refusal. May reject: then the node is told to try again.
   */
  admit(applicant: Applicant): Promise<LinkRefusal | null>;
  /** The link is no longer one of a stranger: it was handed over, or it is over. Called once. */
  onSettled(refused: LinkRefusal | null): void;
}

export interface Applicant {
  readonly nodeId: NodeId;
  readonly hello: Hello;
  readonly link: Link;
  takeOver(session: LinkHandlers): boolean;
}

export class Handshake {
  readonly #link: Link;
  readonly #duties: HandshakeDuties;
  readonly #nonce: string;
  #phase: "awaiting-hello" | "deciding" | "handed-over" | "over" = "awaiting-hello";
  #session: LinkHandlers | null = null;
  #deadline: Timer | null = null;

  constructor(link: Link, duties: HandshakeDuties) {
    this.#link = link;
    this.#duties = duties;
    this.#nonce = toHex(duties.random.bytes(NONCE_BYTES));
  }

  start(): void {
    const { clock, gridId } = this.#duties;
    const message = `no proof of identity within ${HANDSHAKE_MS_MAX} ms`;
    this.#deadline = clock.setTimer(HANDSHAKE_MS_MAX, () => this.refuse(refusal("handshake-timeout", message, 0)));
    this.#link.listen({
      onFrame: (frame) => {
        // Once handed over, the registry contains what its session meets.
        if (this.#session !== null) this.#session.onFrame(frame);
        else this.#contained(() => this.#onFrame(frame));
      },
      onClose: (code, reason) => {
        if (this.#session !== null) this.#session.onClose(code, reason);
        else this.#settle(null);
      },
    });
    this.#send({ type: "challenge", protocolVersions: [...LINK_PROTOCOL_VERSIONS], gridId, nonce: this.#nonce });
  }

  /** Ends a handshake from outside as well (the coordinator stops, there are too many strangers). */
  refuse(reason: LinkRefusal): void {
    if (this.#phase === "handed-over" || this.#phase === "over") return;
    const { code, message, retryAfterMs } = reason;
    const canRetry = retryAfterMs !== null;
    this.#send({
      type: "refused",
      code,
      message,
      canRetry,
      ...(canRetry ? { retryAfterMs: Math.ceil(retryAfterMs) } : {}),
    });
    this.#link.close(canRetry ? LINK_CLOSE.normal : LINK_CLOSE.refused, code);
    this.#duties.log.info({ remote: this.#link.remote, code, reason: message }, "agent refused");
    this.#settle(reason);
  }

  /** A bug that a stranger's frame meets ends his link (docs/decisions/0011-bugs-end-a-link-or-a-request.md). */
  #contained(handle: () => void): void {
    try {
      handle();
    } catch (thrown) {
      this.#duties.log.error({ remote: this.#link.remote, cause: describeFault(thrown) }, FAULT_AT_LINK);
      this.refuse(refusal("coordinator-fault", "the coordinator failed at what the node sent", FAULT_RETRY_MS));
    }
  }

  #onFrame(frame: string): void {
    switch (this.#phase) {
      case "handed-over":
      case "over":
        return;
      case "deciding":
        this.#link.close(LINK_CLOSE.protocolError, "a message before the welcome");
        this.#settle(null);
        return;
      case "awaiting-hello":
        this.#onHello(frame);
    }
  }

  #onHello(frame: string): void {
    const { gridId, crypto } = this.#duties;
    const hello = readHello(frame);
    if (!hello.ok) {
      this.refuse(hello.reason);
      return;
    }
    const { channelBinding } = this.#link;
    const proved = proveHello(hello.value, { gridId, nonce: this.#nonce, channelBinding }, crypto);
    if (!proved.ok) {
      this.refuse(proved.reason);
      return;
    }
    this.#phase = "deciding";
    void this.#decide({
      nodeId: proved.value,
      hello: hello.value,
      link: this.#link,
      takeOver: (session) => this.#takeOver(session),
    });
  }

  async #decide(applicant: Applicant): Promise<void> {
    try {
      const refused = await this.#duties.admit(applicant);
      if (refused !== null) this.refuse(refused);
    } catch (thrown) {
      this.#duties.log.error({ nodeId: applicant.nodeId, cause: describeFault(thrown) }, "admission failed");
      this.refuse(
        refusal("coordinator-fault", "the coordinator could not look the node up: it will work again", FAULT_RETRY_MS),
      );
    }
  }

  #takeOver(session: LinkHandlers): boolean {
    if (this.#phase === "over") return false;
    assert(this.#phase === "deciding", "a link is handed over once, after its proof");
    this.#phase = "handed-over";
    this.#session = session;
    this.#link.trust?.();
    this.#deadline?.cancel();
    this.#duties.onSettled(null);
    return true;
  }

  #settle(refused: LinkRefusal | null): void {
    if (this.#phase === "over" || this.#phase === "handed-over") return;
    this.#phase = "over";
    this.#deadline?.cancel();
    this.#duties.onSettled(refused);
  }

  #send(message: CoordinatorMessage): void {
    this.#link.send(JSON.stringify(message));
  }
}
