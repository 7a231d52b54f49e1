/** The relay's messages on the agent's line: asks for connections through the coordinator, and hands on the offers that others asked for. */
import { assert } from "../../domain/assert.ts";
import { FallowError } from "../../domain/fault.ts";
import { toHex } from "../../domain/hex.ts";
import { nodeId as asNodeId, type NodeId } from "../../domain/ids.ts";
import type { Clock, Timer } from "../../ports/clock.ts";
import type { LinkTarget } from "../../ports/link.ts";
import type { Random } from "../../ports/random.ts";
import type { RelayLine, RelayOffer } from "../../ports/relay.ts";
import type { Line, PeerOrder } from "../session.ts";

type RelayOrder = Extract<PeerOrder, { type: "relay.offer" | "relay.refused" }>;

interface Ask {
  readonly nodeId: NodeId;
  settle(outcome: RelayOffer | FallowError): void;
}

const ASK_ID_BYTES = 8;
/** The coordinator answers at once; a link that is slow takes a few round trips. */
const ANSWER_MS_MAX = 8_000;
/** More than the coordinator grants a node. */
const ASKS_MAX = 64;

export class RelayAsks implements RelayLine {
  readonly #target: LinkTarget;
  readonly #ports: { readonly clock: Clock; readonly random: Random };
  readonly #asks = new Map<string, Ask>();
  #line: Line | null = null;
  #take: ((offer: RelayOffer) => void) | null = null;

  /** `target` is the coordinator's address that the line goes to. */
  constructor(target: LinkTarget, ports: { readonly clock: Clock; readonly random: Random }) {
    this.#target = target;
    this.#ports = ports;
  }

  onLineUp(line: Line): void {
    this.onLineDown();
    this.#line = line;
  }

  onLineDown(): void {
    this.#line = null;
    for (const ask of [...this.#asks.values()])
      ask.settle(unreachable(ask.nodeId, "the link to the coordinator closed"));
  }

  onOrder(order: RelayOrder): void {
    const ask = order.askId === null ? undefined : this.#asks.get(order.askId);
    if (order.type === "relay.refused") {
      ask?.settle(unreachable(ask.nodeId, `${order.code}: ${order.message}`));
      return;
    }
    const offer = { relayId: order.relayId, nodeId: asNodeId(order.nodeId), publicKeyHex: order.publicKey };
    // The answer to an ask that was given up: the offer ends by itself.
    if (order.askId === null) this.#take?.(offer);
    else ask?.settle(offer);
  }

  onOffer(take: (offer: RelayOffer) => void): void {
    assert(this.#take === null, "offers are taken by one");
    this.#take = take;
  }

  session(): { readonly target: LinkTarget; readonly sessionToken: string } | null {
    const line = this.#line;
    return line === null ? null : { target: this.#target, sessionToken: line.welcome.sessionToken };
  }

  ask(nodeId: NodeId, signal: AbortSignal): Promise<RelayOffer> {
    return new Promise((resolve, reject) => {
      const line = this.#line;
      if (line === null || signal.aborted || this.#asks.size >= ASKS_MAX) {
        reject(
          unreachable(nodeId, line === null ? "there is no link to the coordinator" : "too many asks, or given up"),
        );
        return;
      }
      const askId = toHex(this.#ports.random.bytes(ASK_ID_BYTES));
      let timer: Timer | null = null;
      const settle = (outcome: RelayOffer | FallowError) => {
        timer?.cancel();
        signal.removeEventListener("abort", onAbort);
        this.#asks.delete(askId);
        if (outcome instanceof FallowError) reject(outcome);
        else resolve(outcome);
      };
      const onAbort = () => settle(unreachable(nodeId, "given up"));
      this.#asks.set(askId, { nodeId, settle });
      signal.addEventListener("abort", onAbort, { once: true });
      timer = this.#ports.clock.setTimer(ANSWER_MS_MAX, () =>
        settle(unreachable(nodeId, "the coordinator does not answer")),
      );
      line.send({ type: "relay.ask", nodeId, askId });
    });
  }
}

function unreachable(nodeId: NodeId, why: string): FallowError {
  return new FallowError("peer-unreachable", `no relay to ${nodeId}: ${why}`, { data: { nodeId, why } });
}
