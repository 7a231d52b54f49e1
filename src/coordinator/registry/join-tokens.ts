/**
 * Tokens that let strangers in. A token is a tag of its grid and 256 random bits; the store keeps its SHA-256 only. It is good
 * for a number of nodes until a time; a node that used it once may use it again, because the answer to its first try may
 * have been lost.
 */
import { assert } from "../../domain/assert.ts";
import { type NodeId, type Sha256Hex, sha256Hex } from "../../domain/ids.ts";
import { toHex } from "../../market/hex.ts";
import type { Clock } from "../../ports/clock.ts";
import type { Crypto } from "../../ports/crypto.ts";
import type { Random } from "../../ports/random.ts";
import type { JoinTokenStore } from "../../ports/store.ts";
import { type LinkRefusal, refusal } from "./link-refusal.ts";

const SECRET_BYTES = 32;
const GRID_TAG_CHARS = 8;
export const JOIN_TOKEN_USES_MAX = 100_000;
/** A year: longer than that a secret in somebody's notes should not open a grid. */
export const JOIN_TOKEN_TTL_MS_MAX = 366 * 24 * 60 * 60 * 1_000;

export interface IssuedJoinToken {
  /** The secret, for a join code; it is shown once and not kept. */
  readonly token: string;
  readonly usesMax: number;
  /** Wall clock. */
  readonly expiresAtMs: number;
}

export interface JoinTokenPorts {
  readonly store: JoinTokenStore;
  readonly clock: Clock;
  readonly crypto: Crypto;
  readonly random: Random;
}

export class JoinTokens {
  readonly #ports: JoinTokenPorts;
  readonly #gridTag: string;

  constructor(gridId: string, ports: JoinTokenPorts) {
    this.#ports = ports;
    this.#gridTag = this.#sha256(gridId).slice(0, GRID_TAG_CHARS);
  }

  async issue(options: { usesMax: number; ttlMs: number }): Promise<IssuedJoinToken> {
    const { usesMax, ttlMs } = options;
    assert(
      Number.isInteger(usesMax) && usesMax >= 1 && usesMax <= JOIN_TOKEN_USES_MAX,
      `${usesMax} nodes is 1 to ${JOIN_TOKEN_USES_MAX}`,
    );
    assert(ttlMs > 0 && ttlMs <= JOIN_TOKEN_TTL_MS_MAX, `${ttlMs} ms is above 0 and at most ${JOIN_TOKEN_TTL_MS_MAX}`);
    const { store, clock, random } = this.#ports;
    const token = `${this.#gridTag}-${toHex(random.bytes(SECRET_BYTES))}`;
    const createdAtMs = clock.wallMs();
    const expiresAtMs = createdAtMs + Math.floor(ttlMs);
    await store.create({ tokenSha256: this.#sha256(token), usesMax, usesLeft: usesMax, createdAtMs, expiresAtMs });
    return { token, usesMax, expiresAtMs };
  }

  /** Lets the node in (null) or says why not. */
  async use(use: { token: string | null; nodeId: NodeId }): Promise<LinkRefusal | null> {
    if (use.token === null) {
      return refusal("join-token-missing", "this grid does not know the node's key: join with a code of this grid");
    }
    if (!use.token.startsWith(`${this.#gridTag}-`)) {
      return refusal("join-token-foreign", "the join code belongs to another grid: ask this grid's operator for one");
    }
    const atMs = this.#ports.clock.wallMs();
    const used = await this.#ports.store.use({ tokenSha256: this.#sha256(use.token), nodeId: use.nodeId, atMs });
    switch (used) {
      case "used":
        return null;
      case "unknown":
        return refusal(
          "join-token-unknown",
          "this grid never issued the join code's token, or has forgotten it: ask for a new code",
        );
      case "expired":
        return refusal("join-token-expired", "the join code has expired: ask for a new code");
      case "exhausted":
        return refusal(
          "join-token-exhausted",
          "the join code was used by as many nodes as it allows: ask for a new code",
        );
    }
  }

  #sha256(text: string): Sha256Hex {
    return sha256Hex(toHex(this.#ports.crypto.sha256(new TextEncoder().encode(text))));
  }
}
