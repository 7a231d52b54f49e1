/**
 * The key of each choice's draws. A seed that the tenant sent repeats for that tenant and choice, whatever the request's id;
 * without one every request draws anew. Nobody outside can compute a seed, so a node cannot prepare answers.
 */
import { type RequestId, type Sha256Hex, sha256Hex, type TenantId } from "../../../domain/ids.ts";
import type { SeedHex } from "../../../domain/sampling.ts";
import { toHex } from "../../../market/hex.ts";
import type { Crypto } from "../../../ports/crypto.ts";

const CACHE_SCOPE_BYTES = 16;

export function seedOf(
  source: { readonly crypto: Crypto; readonly secret: Uint8Array },
  draw: { requestId: RequestId; tenantId: TenantId; seed: number | null; choice: number },
): SeedHex {
  const name = draw.seed === null ? `request|${draw.requestId}` : `tenant|${draw.tenantId}|${draw.seed}`;
  const message = new TextEncoder().encode(`fallow-seed-v1|${name}|${draw.choice}`);
  return sha256Hex(toHex(source.crypto.hmacSha256(source.secret, message)));
}

/** What a tenant's requests share and no other tenant's: the name under which nodes keep their cached prefixes. */
export function cacheScopeOf(
  source: { readonly crypto: Crypto; readonly secret: Uint8Array },
  tenantId: TenantId,
): string {
  const message = new TextEncoder().encode(`fallow-cache-v1|${tenantId}`);
  return toHex(source.crypto.hmacSha256(source.secret, message).subarray(0, CACHE_SCOPE_BYTES));
}

/** What a receipt commits to: SHA-256 of the choices' seeds in hex, one a line. */
export function seedCommitment(crypto: Crypto, seeds: readonly SeedHex[]): Sha256Hex {
  return sha256Hex(toHex(crypto.sha256(new TextEncoder().encode(seeds.join("\n")))));
}
