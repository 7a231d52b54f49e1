/**
 * Who may read which weights here, and until when. A grant is taken when all of it fits: the grid signed it, the peer that presents it
 * is the one it names (the carrier proved its key), this node is the holder, it is in time by the coordinator's clock, and it was not
 * taken before. What was taken is known of this process only, so a grant from before its first welcome is refused too; the coordinator gives
 * fresh ones for a node that came back.
 */

import { type FetchGrant, GRANT_CLOCK_SLACK_MS, GRANT_TTL_MS } from "../../../domain/peer.ts";
import { type Refusal, refuse } from "../../../domain/refusal.ts";
import { fromHex, toHex } from "../../../market/hex.ts";
import type { Crypto, KeyPair } from "../../../ports/crypto.ts";
import {
  fetchGrantSchema,
  grantSigningText,
  SIGNED_GRANT_CHARS_MAX,
  signedGrantSchema,
} from "../../../wire/fetch-grant.ts";
import { parseJson } from "../../../wire/json-frame.ts";
import type { CoordinatorLine } from "./coordinator-line.ts";

export type Admission =
  | { readonly ok: true; readonly grant: FetchGrant }
  | { readonly ok: false; readonly reason: Refusal };

/** Grants that are remembered until they expire: a hundred a second for the ten minutes that each lasts. */
export const GRANTS_TAKEN_MAX = 65_536;
/** Rights of peers that read now or did lately. */
const RIGHTS_MAX = 4_096;

export class GrantDesk {
  readonly #ports: { readonly crypto: Crypto; readonly line: CoordinatorLine; readonly gridId: () => string | null };
  readonly #ownKeyHex: string;
  /** By grant id: when it expires, by the coordinator's clock. */
  readonly #taken = new Map<string, number>();
  /** By key of the peer and digest of the weights: until when. */
  readonly #rights = new Map<string, number>();

  constructor(ports: { crypto: Crypto; line: CoordinatorLine; gridId: () => string | null }, keyPair: KeyPair) {
    this.#ports = ports;
    this.#ownKeyHex = toHex(keyPair.publicKey);
  }

  /** Takes a credential: untrusted text of a peer whose key the carrier proved. */
  admit(credential: string, peerKeyHex: string): Admission {
    const read = this.#read(credential);
    if (!read.ok) return read;
    const { grant } = read;
    const nowMs = this.#ports.line.nowMs();
    const problem = nowMs === null ? "this node is not in its grid yet" : this.#problem(grant, peerKeyHex, nowMs);
    if (problem !== null || nowMs === null) return denied(problem ?? "");
    this.#forgetExpired(nowMs);
    if (this.#taken.has(grant.grantId)) return denied(`the grant ${grant.grantId} was taken before`);
    if (this.#taken.size >= GRANTS_TAKEN_MAX || this.#rights.size >= RIGHTS_MAX) {
      return refuse("no-capacity", "too many grants were taken here lately", { retryAfterMs: 60_000 });
    }
    this.#taken.set(grant.grantId, grant.expiresAtMs + GRANT_CLOCK_SLACK_MS);
    const right = rightOf(peerKeyHex, grant.weightsSha256);
    this.#rights.set(right, Math.max(this.#rights.get(right) ?? 0, grant.expiresAtMs));
    return { ok: true, grant };
  }

  mayRead(peerKeyHex: string, weightsSha256: string): boolean {
    const untilMs = this.#rights.get(rightOf(peerKeyHex, weightsSha256));
    const nowMs = this.#ports.line.nowMs();
    return untilMs !== undefined && nowMs !== null && nowMs <= untilMs + GRANT_CLOCK_SLACK_MS;
  }

  #read(credential: string): Admission {
    if (credential.length > SIGNED_GRANT_CHARS_MAX) {
      return denied(`a grant has at most ${SIGNED_GRANT_CHARS_MAX} characters, and this has ${credential.length}`);
    }
    const signed = signedGrantSchema.safeParse(parseJson(credential));
    if (!signed.success) return denied("what was presented is no grant");
    const gridKeyHex = this.#ports.line.gridKeyHex;
    const [publicKey, signature] = [fromHex(gridKeyHex ?? ""), fromHex(signed.data.signature)];
    const message = new TextEncoder().encode(grantSigningText(signed.data.grantJson));
    if (gridKeyHex === null || publicKey === null || signature === null)
      return denied("the grid's key is not known here");
    if (!this.#ports.crypto.verify({ publicKey, message, signature })) {
      return denied("the grid did not sign this grant");
    }
    const grant = fetchGrantSchema.safeParse(parseJson(signed.data.grantJson));
    return grant.success ? { ok: true, grant: grant.data } : denied("the grid signed something that is no grant");
  }

  /** Null when the grant fits. */
  #problem(grant: FetchGrant, peerKeyHex: string, nowMs: number): string | null {
    const gridId = this.#ports.gridId();
    if (grant.gridId !== gridId) return `the grant is of the grid ${grant.gridId}, and this node is in ${gridId}`;
    if (grant.fetcherKeyHex !== peerKeyHex) return `the grant is for ${grant.fetcherKeyHex}, not for ${peerKeyHex}`;
    if (grant.holderKeyHex !== this.#ownKeyHex)
      return `the grant is for a link to ${grant.holderKeyHex}, not to this node`;
    if (nowMs > grant.expiresAtMs + GRANT_CLOCK_SLACK_MS) {
      return `the grant expired ${Math.round(nowMs - grant.expiresAtMs)} ms ago: ask for another`;
    }
    if (grant.issuedAtMs > nowMs + GRANT_CLOCK_SLACK_MS) {
      return `the grant begins in ${Math.round(grant.issuedAtMs - nowMs)} ms: a clock is off`;
    }
    if (grant.issuedAtMs < Math.floor(this.#ports.line.firstUpMs ?? 0)) {
      return "the grant is from before this node's start, and may have been taken then: ask for another";
    }
    // One that lasts for ever would have to be remembered for ever.
    const longest = GRANT_TTL_MS + GRANT_CLOCK_SLACK_MS;
    return grant.expiresAtMs - grant.issuedAtMs > longest ? `the grant lasts longer than ${longest} ms` : null;
  }

  #forgetExpired(nowMs: number): void {
    for (const [grantId, untilMs] of this.#taken) if (untilMs < nowMs) this.#taken.delete(grantId);
    for (const [right, untilMs] of this.#rights) {
      if (untilMs + GRANT_CLOCK_SLACK_MS < nowMs) this.#rights.delete(right);
    }
  }
}

function rightOf(peerKeyHex: string, weightsSha256: string): string {
  return `${peerKeyHex} ${weightsSha256}`;
}

function denied(message: string): { readonly ok: false; readonly reason: Refusal } {
  return refuse("insufficient-scope", message);
}
