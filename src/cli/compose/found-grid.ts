/**
 * What a fresh grid needs before its first request: a tenant, money, and the operator's key. Each step is idempotent, so a
 * start that was killed in the middle is completed by the next one, and a key that was revoked is replaced.
 */
import { type KeyMaking, keyFor, makeSecret } from "../../coordinator/admin/create-key.ts";
import { sha256Hex, type TenantId, tenantId } from "../../domain/ids.ts";
import { toHex } from "../../market/hex.ts";
import { FIRST_HOUSE_CREDIT, houseCredit } from "../../market/house.ts";
import { KEY_SCOPES, type Store } from "../../ports/store.ts";
import type { HomeFolder } from "../home/home-folder.ts";
import { type HomeSecrets, readSecrets, writeSecrets } from "../home/home-secrets.ts";

const FIRST_TENANT = "default";
const SEED_BYTES = 32;

/** Reads the home's secrets, or makes them before anything else knows of them. */
export function keptSecrets(home: HomeFolder, ports: Pick<KeyMaking, "random">): HomeSecrets {
  const kept = readSecrets(home);
  if (kept !== null) return kept;
  const made = { apiKey: makeSecret(ports.random), coordinatorSeedHex: toHex(ports.random.bytes(SEED_BYTES)) };
  writeSecrets(home, made);
  return made;
}

/** Makes sure of tenant, house credit and key. Resolves with the secret of a key that is valid. */
export async function foundGrid(
  ports: KeyMaking & { readonly store: Store },
  home: HomeFolder,
  secrets: HomeSecrets,
): Promise<string> {
  const { store } = ports;
  const tenant = await firstTenant(ports);
  const digest = (secret: string) => sha256Hex(toHex(ports.crypto.sha256(new TextEncoder().encode(secret))));
  const known = await store.keys.findBySecret(digest(secrets.apiKey));
  if (known !== null && known.revokedAtMs === null) return secrets.apiKey;
  const secret = known === null ? secrets.apiKey : makeSecret(ports.random);
  if (known !== null) writeSecrets(home, { ...secrets, apiKey: secret });
  await store.keys.create(keyFor(ports, { secret, tenant, terms: { name: "operator", scopes: [...KEY_SCOPES] } }));
  return secret;
}

async function firstTenant({ store, ids, clock }: KeyMaking & { readonly store: Store }): Promise<TenantId> {
  const tenants = await store.tenants.list();
  let tenant = tenants.find(({ name }) => name === FIRST_TENANT) ?? null;
  if (tenant === null) {
    tenant = {
      tenantId: tenantId(ids.make("ten")),
      name: FIRST_TENANT,
      createdAtMs: Math.floor(clock.wallMs()),
      limits: null,
    };
    await store.tenants.create(tenant);
  }
  // The transfer is the same at each start, so only the first one moves money.
  await store.ledger.apply([
    houseCredit({
      tenantId: tenant.tenantId,
      creditId: "first",
      amountMicroUsd: FIRST_HOUSE_CREDIT,
      atMs: tenant.createdAtMs,
    }),
  ]);
  return tenant.tenantId;
}
