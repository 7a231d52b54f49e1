/** The agent's dealings with other nodes under one roof: weights, relayed connections, and what the coordinator is told of the ways to them. */
import type { Line, PeerHandler, PeerOrder } from "./session.ts";

/** The relay's part; absent where this node is never relayed. */
export interface RelayDuty {
  onLineUp(line: Line): void;
  onLineDown(): void;
  onOrder(order: Extract<PeerOrder, { type: "relay.offer" | "relay.refused" }>): void;
}

/** Tells the coordinator something while there is a line. */
export interface NewsDuty {
  onLineUp(line: Line): void;
  onLineDown(): void;
}

/** Reads the disk while nobody needs it. */
export interface IdleDuty {
  giveWay(): void;
}

interface PeerParts {
  readonly weights: PeerHandler;
  readonly relay: RelayDuty | null;
  readonly news: NewsDuty | null;
  readonly idle?: () => IdleDuty;
}

export class PeerDuties implements PeerHandler {
  readonly #parts: PeerParts;

  constructor(parts: PeerParts) {
    this.#parts = parts;
  }

  onLineUp(line: Line): void {
    const { weights, relay, news } = this.#parts;
    relay?.onLineUp(line);
    // Where this node is reached comes first: only who can be reached is named to others.
    news?.onLineUp(line);
    weights.onLineUp(line);
  }

  onLineDown(): void {
    const { weights, relay, news } = this.#parts;
    weights.onLineDown();
    news?.onLineDown();
    relay?.onLineDown();
  }

  onPeerOrder(order: PeerOrder): void {
    if (order.type === "relay.offer" || order.type === "relay.refused") this.#parts.relay?.onOrder(order);
    else this.#parts.weights.onPeerOrder(order);
  }

  onYield(isYielding: boolean): void {
    this.#parts.weights.onYield?.(isYielding);
    if (isYielding) this.#parts.idle?.().giveWay();
  }
}
