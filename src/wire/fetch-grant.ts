/**
 * A grant on the wire: canonical JSON, and the grid's Ed25519 signature over a label and that very text. Whoever presents it must hold the
 * fetcher's key, which the carrier proves; so a grant that leaks is worth nothing to a stranger.
 */
import { z } from "zod";
import { sha256Hex } from "../domain/ids.ts";
import type { FetchGrant } from "../domain/peer.ts";

const hex = (bytes: number) => z.string().regex(new RegExp(`^[0-9a-f]{${bytes * 2}}$`));
const ms = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);

export const fetchGrantSchema = z.strictObject({
  version: z.literal(1),
  grantId: hex(16),
  gridId: z.string().min(1).max(64),
  weightsSha256: hex(32).transform(sha256Hex),
  fetcherKeyHex: hex(32),
  holderKeyHex: hex(32),
  issuedAtMs: ms,
  expiresAtMs: ms,
});

/** A grant with its signature; at most `SIGNED_GRANT_CHARS_MAX` as JSON. */
export const signedGrantSchema = z.strictObject({ grantJson: z.string().min(2).max(1_024), signature: hex(64) });
export type SignedGrant = z.infer<typeof signedGrantSchema>;
export const SIGNED_GRANT_CHARS_MAX = 2_048;

/** The text whose UTF-8 bytes are signed. */
export function grantSigningText(grantJson: string): string {
  return `fallow-fetch-grant-v1\n${grantJson}`;
}

/** Fields in a fixed order, so that the text of a grant is one. */
export function grantJson(grant: FetchGrant): string {
  const { version, grantId, gridId, weightsSha256, fetcherKeyHex, holderKeyHex, issuedAtMs, expiresAtMs } = grant;
  return JSON.stringify({
    version,
    grantId,
    gridId,
    weightsSha256,
    fetcherKeyHex,
    holderKeyHex,
    issuedAtMs,
    expiresAtMs,
  });
}
