/** What every store holds of kept answers of `/v1/responses`. */
import { describe, expect, test } from "vitest";
import { responseId } from "../../src/domain/ids.ts";
import type { StoredResponse } from "../../src/ports/response-store.ts";
import type { Store } from "../../src/ports/store.ts";
import { aTenant } from "./store-samples.ts";

const OPEN = { responsesMax: 100, charsMax: 1_000_000 };
const idOf = (number: number) => responseId(`resp_${String(number).padStart(26, "0")}`);
const tenant = aTenant(1).tenantId;

function aResponse(number: number, more: Partial<StoredResponse> = {}): StoredResponse {
  return {
    responseId: idOf(number),
    tenantId: tenant,
    previousId: null,
    createdAtMs: 1_000 + number,
    expiresAtMs: 9_000 + number,
    inputJson: `[{"text":"question ${number} — 漢字 😀"}]`,
    bodyJson: `{"id":${number}}`,
    ...more,
  };
}

export function describeResponseContract(on: { store(): Store; reopen(): Promise<void> }): void {
  const responses = () => on.store().responses;
  const ref = (number: number, tenantId = tenant) => ({ responseId: idOf(number), tenantId });

  describe("kept answers", () => {
    test("are given back as they were put, to their tenant, until they expire", async () => {
      const first = aResponse(1, { previousId: idOf(7) });
      expect(await responses().put(first, OPEN)).toBe(0);
      expect(await responses().put(aResponse(1, { bodyJson: "{}" }), OPEN)).toBe(0);
      await on.reopen();
      expect(await responses().get(ref(1), 9_000)).toEqual(first);
      expect(await responses().get(ref(1), 9_001)).toBeNull();
      expect(await responses().get(ref(1, aTenant(2).tenantId), 0)).toBeNull();
      expect(await responses().get(ref(2), 0)).toBeNull();
    });

    test("are removed once, by their tenant alone", async () => {
      await responses().put(aResponse(1), OPEN);
      expect(await responses().remove(ref(1, aTenant(2).tenantId))).toBe(false);
      expect(await responses().remove(ref(1))).toBe(true);
      expect(await responses().remove(ref(1))).toBe(false);
      expect(await responses().get(ref(1), 0)).toBeNull();
    });

    test("form a chain, newest first, as far as it goes and the bounds let it", async () => {
      for (const number of [1, 2, 3, 4]) {
        await responses().put(aResponse(number, { previousId: number === 1 ? null : idOf(number - 1) }), OPEN);
      }
      const chain = async (bounds: object) =>
        (await responses().chain(ref(4), { ...OPEN, nowMs: 0, ...bounds })).map((one) => one.responseId);
      expect(await chain({})).toEqual([4, 3, 2, 1].map(idOf));
      expect(await chain({ responsesMax: 2 })).toEqual([4, 3].map(idOf));
      expect(await chain({ charsMax: 0 })).toEqual([idOf(4)]);
      expect(await chain({ nowMs: 9_002 })).toEqual([4, 3].map(idOf));
      await responses().remove(ref(2));
      expect(await chain({})).toEqual([4, 3].map(idOf));
      expect(await responses().chain(ref(4, aTenant(2).tenantId), { ...OPEN, nowMs: 0 })).toEqual([]);
    });

    test("beyond the quota push out the tenant's oldest, by number and by size", async () => {
      const other = aResponse(9, { tenantId: aTenant(2).tenantId });
      await responses().put(other, OPEN);
      for (const number of [1, 2, 3]) await responses().put(aResponse(number), OPEN);
      expect(await responses().put(aResponse(4), { ...OPEN, responsesMax: 3 })).toBe(1);
      expect(await responses().get(ref(1), 0)).toBeNull();
      const large = aResponse(5, { bodyJson: JSON.stringify("x".repeat(500)) });
      expect(await responses().put(large, { ...OPEN, charsMax: 500 })).toBe(3);
      expect(await responses().get(ref(5), 0)).toEqual(large);
      await responses().remove(ref(5));
      for (const number of [6, 7]) expect(await responses().put(aResponse(number), { ...OPEN, charsMax: 100 })).toBe(0);
      expect(await responses().get({ responseId: idOf(9), tenantId: aTenant(2).tenantId }, 0)).toEqual(other);
    });

    test("that have expired are swept, the earliest first, and no longer count", async () => {
      for (const number of [1, 2, 3]) await responses().put(aResponse(number), OPEN);
      expect(await responses().sweep({ nowMs: 9_002, limit: 1 })).toBe(1);
      expect(await responses().get(ref(1), 0)).toBeNull();
      expect(await responses().sweep({ nowMs: 9_002, limit: 10 })).toBe(1);
      expect(await responses().sweep({ nowMs: 9_002, limit: 10 })).toBe(0);
      expect(await responses().put(aResponse(4), { ...OPEN, responsesMax: 2 })).toBe(0);
      expect(await responses().get(ref(3), 0)).not.toBeNull();
    });
  });
}
