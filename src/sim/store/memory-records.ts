/** Tenants, keys, nodes, models, join tokens and kept answers of the memory store. */
import { FallowError } from "../../domain/fault.ts";
import { ZERO_USD } from "../../domain/money.ts";
import type {
  IdempotencyStore,
  JoinTokenStore,
  JoinTokenUse,
  KeyStore,
  MetaStore,
  ModelStore,
  NodeStore,
  TenantStore,
} from "../../ports/store.ts";
import type { MemoryDisk, MemoryRead, MemoryWrite } from "./memory-disk.ts";
import { byKey } from "./memory-ledger.ts";

export function memoryMeta(read: MemoryRead, write: MemoryWrite): MetaStore {
  return {
    get: (name) => read((disk) => disk.meta.get(name) ?? null),
    set: (name, value) => write((disk) => void disk.meta.set(name, value)),
    increment: (name) =>
      write((disk) => {
        const next = Number(disk.meta.get(name) ?? "0") + 1;
        disk.meta.set(name, String(next));
        return next;
      }),
  };
}

export function memoryTenants(read: MemoryRead, write: MemoryWrite): TenantStore {
  return {
    create: (tenant) =>
      write((disk) => {
        if (disk.tenants.has(tenant.tenantId)) {
          throw new FallowError("already-exists", `tenant ${tenant.tenantId} exists already`);
        }
        disk.tenants.set(tenant.tenantId, tenant);
      }),
    get: (id) => read((disk) => disk.tenants.get(id) ?? null),
    list: () => read((disk) => [...disk.tenants.values()].sort(byKey((tenant) => tenant.tenantId))),
    setLimits: (id, limits) =>
      write((disk) => {
        const tenant = disk.tenants.get(id);
        if (tenant === undefined) return false;
        disk.tenants.set(id, { ...tenant, limits });
        return true;
      }),
  };
}

export function memoryKeys(read: MemoryRead, write: MemoryWrite): KeyStore {
  return {
    create: (key) =>
      write((disk) => {
        const known = [...disk.keys.values()].find(
          (other) => other.keyId === key.keyId || other.secretSha256 === key.secretSha256,
        );
        if (known !== undefined) throw new FallowError("already-exists", `key ${known.keyId} exists already`);
        if (!disk.tenants.has(key.tenantId)) {
          throw new FallowError("tenant-unknown", `there is no tenant ${key.tenantId}`);
        }
        disk.keys.set(key.keyId, key);
      }),
    findBySecret: (secret) =>
      read((disk) => [...disk.keys.values()].find((key) => key.secretSha256 === secret) ?? null),
    get: (id) => read((disk) => disk.keys.get(id) ?? null),
    list: () => read((disk) => [...disk.keys.values()].sort(byKey((key) => key.keyId))),
    revoke: (id, atMs) =>
      write((disk) => {
        const key = disk.keys.get(id);
        if (key === undefined || key.revokedAtMs !== null) return false;
        disk.keys.set(id, { ...key, revokedAtMs: atMs });
        return true;
      }),
    update: (id, terms) =>
      write((disk) => {
        const key = disk.keys.get(id);
        if (key === undefined || key.revokedAtMs !== null) return false;
        disk.keys.set(id, { ...key, ...terms });
        return true;
      }),
    spent: (id) => read((disk) => disk.spent.get(id) ?? ZERO_USD),
  };
}

export function memoryJoinTokens(read: MemoryRead, write: MemoryWrite): JoinTokenStore {
  return {
    create: (token) =>
      write((disk) => {
        if (disk.joinTokens.has(token.tokenSha256)) {
          throw new FallowError("already-exists", "this join token exists already");
        }
        disk.joinTokens.set(token.tokenSha256, token);
      }),
    use: (use) => write((disk) => useToken(disk, use)),
    list: () =>
      read((disk) =>
        [...disk.joinTokens.values()].sort(
          (a, b) => a.createdAtMs - b.createdAtMs || byKey<typeof a>((token) => token.tokenSha256)(a, b),
        ),
      ),
  };
}

function useToken(disk: MemoryDisk, use: Parameters<JoinTokenStore["use"]>[0]): JoinTokenUse {
  const token = disk.joinTokens.get(use.tokenSha256);
  if (token === undefined) return "unknown";
  const uses = disk.tokenUses.get(use.tokenSha256) ?? new Set();
  if (uses.has(use.nodeId)) return "used";
  if (token.expiresAtMs <= use.atMs) return "expired";
  if (token.usesLeft === 0) return "exhausted";
  disk.joinTokens.set(use.tokenSha256, { ...token, usesLeft: token.usesLeft - 1 });
  disk.tokenUses.set(use.tokenSha256, uses.add(use.nodeId));
  return "used";
}

export function memoryNodes(read: MemoryRead, write: MemoryWrite): NodeStore {
  return {
    put: (node) => write((disk) => void disk.nodes.set(node.nodeId, node)),
    get: (id) => read((disk) => disk.nodes.get(id) ?? null),
    list: () => read((disk) => [...disk.nodes.values()].sort(byKey((node) => node.nodeId))),
  };
}

export function memoryModels(read: MemoryRead, write: MemoryWrite): ModelStore {
  return {
    put: (model) => write((disk) => void disk.models.set(model.manifest.modelId, model)),
    get: (id) => read((disk) => disk.models.get(id) ?? null),
    list: () => read((disk) => [...disk.models.values()].sort(byKey((model) => model.manifest.modelId))),
    remove: (id) => write((disk) => disk.models.delete(id)),
  };
}

export function memoryIdempotency(write: MemoryWrite): IdempotencyStore {
  const nameOf = (entry: { scope: string; key: string }) => JSON.stringify([entry.scope, entry.key]);
  return {
    begin: (entry) =>
      write((disk) => {
        const known = disk.idempotency.get(nameOf(entry));
        if (known !== undefined && known.expiresAtMs > entry.atMs) {
          if (known.bodySha256 !== entry.bodySha256) return { state: "conflict" };
          return known.record === null ? { state: "in-progress" } : { state: "done", record: known.record };
        }
        const { scope, key, bodySha256, expiresAtMs } = entry;
        disk.idempotency.set(nameOf(entry), { scope, key, bodySha256, expiresAtMs, record: null });
        return { state: "started" };
      }),
    finish: (entry) =>
      write((disk) => {
        const known = disk.idempotency.get(nameOf(entry));
        if (known !== undefined) disk.idempotency.set(nameOf(entry), { ...known, record: entry.record });
      }),
    forget: (entry) => write((disk) => void disk.idempotency.delete(nameOf(entry))),
    sweep: (options) =>
      write((disk) => {
        let removed = 0;
        for (const [name, entry] of disk.idempotency) {
          const isLeftOver = options.isStart && entry.record === null;
          if (entry.expiresAtMs > options.nowMs && !isLeftOver) continue;
          disk.idempotency.delete(name);
          removed++;
        }
        return removed;
      }),
  };
}
