import { toHex } from "../market/hex.ts";
import type { Crypto, KeyPair } from "../ports/crypto.ts";
import type { Random } from "../ports/random.ts";
import type { MetaStore } from "../ports/store.ts";

const GRID_ID = "grid-id";
const BOOTS = "coordinator-starts";
const GRID_ID_BYTES = 8;
/** What sampling seeds are derived from must not be what receipts are signed with. */
const SEED_LABEL = "fallow-sampling-seeds-v1";

export interface GridIdentity {
  readonly gridId: string;
  /** Durable count of coordinator starts, this one included. */
  readonly boot: number;
}

/** Founds the grid at its first start, and takes the next boot number. */
export async function takeGridIdentity(meta: MetaStore, random: Random): Promise<GridIdentity> {
  const known = await meta.get(GRID_ID);
  const gridId = known ?? `grid-${toHex(random.bytes(GRID_ID_BYTES))}`;
  if (known === null) await meta.set(GRID_ID, gridId);
  return { gridId, boot: await meta.increment(BOOTS) };
}

/** The same over restarts, so that a tenant's seed repeats. */
export function samplingSeedSecret(crypto: Crypto, gridKey: KeyPair): Uint8Array {
  return crypto.hmacSha256(gridKey.seed, new TextEncoder().encode(SEED_LABEL));
}
