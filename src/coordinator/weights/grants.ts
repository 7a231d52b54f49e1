/**
 * Fetch grants: the right of one node to open a link to another and to read one model's weights there. One for each (fetcher, holder, weights)
 * while both are in the sessions that it was made in; before it ends the fetcher gets the next. A grant is taken once by the holder, so a
 * fetcher that lost its link asks again (`weights.want`) and gets a fresh one.
 */

import { toHex } from "../../domain/hex.ts";
import type { NodeId, Sha256Hex } from "../../domain/ids.ts";
import { type FetchGrant, GRANT_TTL_MS } from "../../domain/peer.ts";
import type { Clock } from "../../ports/clock.ts";
import type { KeyPair } from "../../ports/crypto.ts";
import type { Random } from "../../ports/random.ts";
import { grantJson, grantSigningText, type SignedGrant } from "../../wire/fetch-grant.ts";

/** From then on the next one is given, so that there is no moment without. */
export const GRANT_RENEW_MS = GRANT_TTL_MS * 0.7;
/** A node that asks again within this gets no new one: the last is on its way to it. */
export const GRANT_REFRESH_MS = 15_000;
const GRANT_ID_BYTES = 16;
/** Remembered of one fetcher; of more, the oldest is given anew when its holder is named again. */
const GRANTS_PER_FETCHER_MAX = 4_096;

export interface GrantPorts {
  readonly gridId: string;
  readonly gridKey: KeyPair;
  readonly clock: Clock;
  readonly random: Random;
}

export interface GrantEnds {
  readonly weightsSha256: Sha256Hex;
  readonly fetcher: { readonly nodeId: NodeId; readonly publicKeyHex: string };
  readonly holder: { readonly nodeId: NodeId; readonly publicKeyHex: string };
}

export class GrantBook {
  readonly #ports: GrantPorts;
  /** By fetcher, then by holder and weights: monotonic time of issue. */
  readonly #issuedAtMs = new Map<NodeId, Map<string, number>>();
  #issued = 0;

  constructor(ports: GrantPorts) {
    this.#ports = ports;
  }

  /** Since the start. */
  get issued(): number {
    return this.#issued;
  }

  /**
   * A grant, or null while the one given before lasts. `askedAtMs`: monotonic time at which the fetcher asked last; a grant from before
   * that may be used up.
   */
  grant(ends: GrantEnds, askedAtMs: number): SignedGrant | null {
    const { fetcher, holder, weightsSha256 } = ends;
    const given = this.#issuedAtMs.get(fetcher.nodeId) ?? new Map<string, number>();
    const key = pairKey(holder.nodeId, weightsSha256);
    const nowMs = this.#ports.clock.monoMs();
    if (nowMs < dueAtMs(given.get(key), askedAtMs)) return null;
    given.delete(key);
    given.set(key, nowMs);
    if (given.size > GRANTS_PER_FETCHER_MAX) given.delete(given.keys().next().value ?? "");
    this.#issuedAtMs.set(fetcher.nodeId, given);
    this.#issued += 1;
    return this.#signed(ends);
  }

  /** When the fetcher should be told of this holder again, for a grant that is fresh. */
  dueAtMs(fetcher: NodeId, holder: NodeId, weightsSha256: Sha256Hex, askedAtMs: number): number {
    return dueAtMs(this.#issuedAtMs.get(fetcher)?.get(pairKey(holder, weightsSha256)), askedAtMs);
  }

  /** The fetcher was given a grant for this holder, and it has not ended. */
  hasGrant(fetcher: NodeId, holder: NodeId, weightsSha256: Sha256Hex): boolean {
    const issuedAtMs = this.#issuedAtMs.get(fetcher)?.get(pairKey(holder, weightsSha256));
    return issuedAtMs !== undefined && this.#ports.clock.monoMs() - issuedAtMs < GRANT_TTL_MS;
  }

  /** The node's session ended: what it was granted, and what others were granted with it, is given anew when it is back. */
  forget(nodeId: NodeId): void {
    this.#issuedAtMs.delete(nodeId);
    for (const given of this.#issuedAtMs.values()) {
      for (const key of given.keys()) if (key.startsWith(`${nodeId} `)) given.delete(key);
    }
  }

  #signed({ weightsSha256, fetcher, holder }: GrantEnds): SignedGrant {
    const { gridId, gridKey, random, clock } = this.#ports;
    const issuedAtMs = Math.floor(clock.wallMs());
    const grant: FetchGrant = {
      version: 1,
      grantId: toHex(random.bytes(GRANT_ID_BYTES)),
      gridId,
      weightsSha256,
      fetcherKeyHex: fetcher.publicKeyHex,
      holderKeyHex: holder.publicKeyHex,
      issuedAtMs,
      expiresAtMs: issuedAtMs + GRANT_TTL_MS,
    };
    const json = grantJson(grant);
    return { grantJson: json, signature: toHex(gridKey.sign(new TextEncoder().encode(grantSigningText(json)))) };
  }
}

function dueAtMs(issuedAtMs: number | undefined, askedAtMs: number): number {
  if (issuedAtMs === undefined) return Number.NEGATIVE_INFINITY;
  return issuedAtMs + (issuedAtMs < askedAtMs ? GRANT_REFRESH_MS : GRANT_RENEW_MS);
}

function pairKey(holder: NodeId, weightsSha256: Sha256Hex): string {
  return `${holder} ${weightsSha256}`;
}
