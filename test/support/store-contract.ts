/**
 * The contract of the Store port, run over every store that there is. `open` gives a store on fresh, empty storage;
 * `reopen` closes it and opens the same storage again, as a restart does.
 */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { modelId } from "../../src/domain/ids.ts";
import { microUsd } from "../../src/domain/money.ts";
import type { Store } from "../../src/ports/store.ts";
import { describeBatchContract } from "./store-contract-batches.ts";
import { describeBudgetContract } from "./store-contract-budgets.ts";
import { describeLeaseContract } from "./store-contract-leases.ts";
import { describeLedgerContract } from "./store-contract-ledger.ts";
import { describeProviderContract } from "./store-contract-providers.ts";
import { describeResponseContract } from "./store-contract-responses.ts";
import { aModel, aNode, anApiKey, aTenant, digest, nodeIdOf } from "./store-samples.ts";

export interface OpenedStore {
  store: Store;
  reopen(): Promise<Store>;
  close(): Promise<void>;
}

export function describeStoreContract(name: string, open: () => Promise<OpenedStore>): void {
  describe(`the store contract over ${name}`, () => {
    let opened: OpenedStore;
    let store: Store;
    beforeEach(async () => {
      opened = await open();
      store = opened.store;
    });
    afterEach(() => opened.close());
    const reopen = async () => {
      store = await opened.reopen();
    };

    describe("names and counters", () => {
      test("an unset name is null, and a set one survives a restart", async () => {
        expect(await store.meta.get("grid")).toBeNull();
        await store.meta.set("grid", "g1");
        await store.meta.set("grid", "g2");
        await reopen();
        expect(await store.meta.get("grid")).toBe("g2");
      });

      test("a counter gives each of many concurrent callers its own number", async () => {
        const numbers = await Promise.all(Array.from({ length: 20 }, () => store.meta.increment("boots")));
        expect([...numbers].sort((a, b) => a - b)).toEqual(Array.from({ length: 20 }, (_, index) => index + 1));
        await reopen();
        expect(await store.meta.increment("boots")).toBe(21);
      });
    });

    describe("tenants and keys", () => {
      test("a tenant is kept as it was made, and cannot be made twice", async () => {
        const tenant = aTenant(1);
        await store.tenants.create(tenant);
        await store.tenants.create(aTenant(2));
        await expect(store.tenants.create(tenant)).rejects.toMatchObject({ code: "already-exists" });
        await reopen();
        expect(await store.tenants.get(tenant.tenantId)).toEqual(tenant);
        expect(await store.tenants.get(aTenant(9).tenantId)).toBeNull();
        expect(await store.tenants.list()).toEqual([tenant, aTenant(2)]);
      });

      test("a key is found by its secret's digest with every field as given", async () => {
        await store.tenants.create(aTenant(1));
        const plain = anApiKey(1, { budgetMicroUsd: null, models: null, expiresAtMs: null });
        const limited = anApiKey(2, {
          budgetMicroUsd: microUsd(Number.MAX_SAFE_INTEGER),
          models: [modelId("tiny"), modelId("meta/llama-3:8b")],
          requestsPerMinuteMax: 60,
          tokensPerMinuteMax: 100_000,
          expiresAtMs: 2_000,
        });
        await store.keys.create(plain);
        await store.keys.create(limited);
        await reopen();
        expect(await store.keys.findBySecret(limited.secretSha256)).toEqual(limited);
        expect(await store.keys.get(plain.keyId)).toEqual(plain);
        expect(await store.keys.list()).toEqual([plain, limited]);
        expect(await store.keys.findBySecret(digest(99))).toBeNull();
        expect(await store.keys.get(anApiKey(9).keyId)).toBeNull();
      });

      test("a key of a tenant that does not exist, or with a known secret, is refused", async () => {
        await expect(store.keys.create(anApiKey(1))).rejects.toMatchObject({ code: "tenant-unknown" });
        await store.tenants.create(aTenant(1));
        await store.keys.create(anApiKey(1));
        const sameSecret = { ...anApiKey(2), secretSha256: anApiKey(1).secretSha256 };
        await expect(store.keys.create(sameSecret)).rejects.toMatchObject({ code: "already-exists" });
      });

      test("a key is revoked once", async () => {
        await store.tenants.create(aTenant(1));
        const key = anApiKey(1);
        await store.keys.create(key);
        expect(await store.keys.revoke(key.keyId, 777)).toBe(true);
        expect(await store.keys.revoke(key.keyId, 888)).toBe(false);
        expect(await store.keys.revoke(anApiKey(2).keyId, 888)).toBe(false);
        expect((await store.keys.get(key.keyId))?.revokedAtMs).toBe(777);
      });
    });

    describe("join tokens", () => {
      const token = { tokenSha256: digest(1), usesMax: 3, usesLeft: 3, createdAtMs: 10, expiresAtMs: 1_000 };

      test("a token gives each node one use, and the same node may come again without taking another", async () => {
        await store.joinTokens.create(token);
        await expect(store.joinTokens.create(token)).rejects.toMatchObject({ code: "already-exists" });
        const use = (node: number, atMs = 20) =>
          store.joinTokens.use({ tokenSha256: token.tokenSha256, nodeId: nodeIdOf(node), atMs });
        expect(await use(1)).toBe("used");
        expect(await use(1)).toBe("used");
        expect(await store.joinTokens.list()).toEqual([{ ...token, usesLeft: 2 }]);
        expect(await use(2)).toBe("used");
        expect(await use(3)).toBe("used");
        expect(await use(4)).toBe("exhausted");
        await reopen();
        expect(await use(4)).toBe("exhausted");
        expect(await use(1, 5_000)).toBe("used");
      });

      test("an unknown and an expired token are told apart", async () => {
        await store.joinTokens.create(token);
        const use = { nodeId: nodeIdOf(1), atMs: 1_000 };
        expect(await store.joinTokens.use({ tokenSha256: token.tokenSha256, ...use })).toBe("expired");
        expect(await store.joinTokens.use({ tokenSha256: digest(2), ...use })).toBe("unknown");
      });

      test("thirty nodes at once never get more uses than the token has", async () => {
        await store.joinTokens.create(token);
        const uses = await Promise.all(
          Array.from({ length: 30 }, (_, index) =>
            store.joinTokens.use({ tokenSha256: token.tokenSha256, nodeId: nodeIdOf(index), atMs: 20 }),
          ),
        );
        expect(uses.filter((use) => use === "used")).toHaveLength(3);
        expect(uses.filter((use) => use === "exhausted")).toHaveLength(27);
      });
    });

    describe("nodes and models", () => {
      test("a node is kept, and put again replaces it", async () => {
        const node = aNode(1);
        await store.nodes.put(node);
        await store.nodes.put(aNode(2));
        const seen = { ...node, lastSeenAtMs: 99, isDraining: true, removedAtMs: 100, name: "renamed" };
        await store.nodes.put(seen);
        await reopen();
        expect(await store.nodes.get(node.nodeId)).toEqual(seen);
        expect(await store.nodes.get(nodeIdOf(9))).toBeNull();
        expect((await store.nodes.list()).map((one) => one.nodeId)).toEqual([node.nodeId, aNode(2).nodeId].sort());
      });

      test("a model is kept, replaced and removed", async () => {
        const model = aModel("tiny");
        await store.models.put(model);
        await store.models.put(aModel("other"));
        const manifest = { ...model.manifest, draftModelId: modelId("other") };
        const moved = { manifest, weightsPath: "/elsewhere/tiny.gguf" };
        await store.models.put(moved);
        await reopen();
        expect(await store.models.get(modelId("tiny"))).toEqual(moved);
        expect((await store.models.list()).map((one) => one.manifest.modelId)).toEqual(["other", "tiny"]);
        expect(await store.models.remove(modelId("tiny"))).toBe(true);
        expect(await store.models.remove(modelId("tiny"))).toBe(false);
        expect(await store.models.get(modelId("tiny"))).toBeNull();
      });
    });

    describeLedgerContract({ now: () => store, reopen });
    describeLeaseContract(() => store, reopen);
    describeBudgetContract(() => store, reopen);
    describeBatchContract(() => store, reopen);
    describeResponseContract({ store: () => store, reopen });
    describeProviderContract(() => store, reopen);

    describe("kept answers", () => {
      const entry = {
        scope: "key_1 POST /v1/chat/completions",
        key: "abc",
        bodySha256: digest(1),
        atMs: 10,
        expiresAtMs: 100,
      };
      const record = { status: 200, headersJson: "{}", body: '{"ok":"é\\u0000"}' };

      test("of many at once one starts, and after it ended everyone gets its answer", async () => {
        const begun = await Promise.all(Array.from({ length: 8 }, () => store.idempotency.begin(entry)));
        expect(begun.filter((one) => one.state === "started")).toHaveLength(1);
        expect(begun.filter((one) => one.state === "in-progress")).toHaveLength(7);
        await store.idempotency.finish({ scope: entry.scope, key: entry.key, record });
        await reopen();
        expect(await store.idempotency.begin(entry)).toEqual({ state: "done", record });
      });

      test("another body under the same key is a conflict, another scope is not", async () => {
        await store.idempotency.begin(entry);
        expect(await store.idempotency.begin({ ...entry, bodySha256: digest(2) })).toEqual({ state: "conflict" });
        expect(await store.idempotency.begin({ ...entry, scope: "other" })).toEqual({ state: "started" });
      });

      test("a forgotten or expired entry starts anew", async () => {
        await store.idempotency.begin(entry);
        await store.idempotency.forget(entry);
        expect(await store.idempotency.begin(entry)).toEqual({ state: "started" });
        expect(await store.idempotency.begin({ ...entry, atMs: 100, bodySha256: digest(2), expiresAtMs: 300 })).toEqual(
          {
            state: "started",
          },
        );
      });

      test("sweeping removes what expired, and at a start what an earlier life left unfinished", async () => {
        await store.idempotency.begin(entry);
        await store.idempotency.begin({ ...entry, key: "done" });
        await store.idempotency.finish({ scope: entry.scope, key: "done", record });
        await store.idempotency.begin({ ...entry, key: "old", expiresAtMs: 20 });
        expect(await store.idempotency.sweep({ nowMs: 20, isStart: false })).toBe(1);
        expect(await store.idempotency.sweep({ nowMs: 20, isStart: true })).toBe(1);
        expect(await store.idempotency.begin({ ...entry, key: "done" })).toMatchObject({ state: "done" });
        expect(await store.idempotency.begin(entry)).toEqual({ state: "started" });
      });
    });

    test("a write after closing is refused, and closing twice is fine", async () => {
      await store.close();
      await store.close();
      await expect(store.meta.set("a", "b")).rejects.toMatchObject({ code: "store-closed" });
    });
  });
}
