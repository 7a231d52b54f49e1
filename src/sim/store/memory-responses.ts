/** Kept answers of `/v1/responses` in the memory store. */
import type { ResponseId, TenantId } from "../../domain/ids.ts";
import type { ResponseRef, ResponseStore, StoredResponse } from "../../ports/response-store.ts";
import type { MemoryDisk, MemoryRead, MemoryWrite } from "./memory-disk.ts";
import { byKey } from "./memory-ledger.ts";

const charsOf = (response: StoredResponse) => response.inputJson.length + response.bodyJson.length;
const byId = byKey<StoredResponse>((response) => response.responseId);

export function memoryResponses(read: MemoryRead, write: MemoryWrite): ResponseStore {
  return {
    put: (response, quota) =>
      write((disk) => {
        if (disk.responses.has(response.responseId)) return 0;
        disk.responses.set(response.responseId, response);
        const kept = ofTenant(disk, response.tenantId);
        let chars = kept.reduce((sum, one) => sum + charsOf(one), 0);
        let dropped = 0;
        for (const oldest of kept) {
          if (kept.length - dropped <= quota.responsesMax && chars <= quota.charsMax) break;
          if (oldest.responseId === response.responseId) continue;
          disk.responses.delete(oldest.responseId);
          chars -= charsOf(oldest);
          dropped++;
        }
        return dropped;
      }),
    get: (ref, nowMs) => read((disk) => find(disk, ref, nowMs)),
    chain: (ref, { nowMs, responsesMax, charsMax }) =>
      read((disk) => {
        const line: StoredResponse[] = [];
        let chars = 0;
        let next: ResponseId | null = ref.responseId;
        while (next !== null && line.length < responsesMax && chars <= charsMax) {
          const found: StoredResponse | null = find(disk, { tenantId: ref.tenantId, responseId: next }, nowMs);
          if (found === null) break;
          line.push(found);
          chars += charsOf(found);
          next = found.previousId;
        }
        return line;
      }),
    remove: (ref) =>
      write(
        (disk) =>
          disk.responses.get(ref.responseId)?.tenantId === ref.tenantId && disk.responses.delete(ref.responseId),
      ),
    sweep: ({ nowMs, limit }) =>
      write((disk) => {
        const expired = [...disk.responses.values()]
          .filter((response) => response.expiresAtMs <= nowMs)
          .sort((a, b) => a.expiresAtMs - b.expiresAtMs || byId(a, b))
          .slice(0, limit);
        for (const { responseId } of expired) disk.responses.delete(responseId);
        return expired.length;
      }),
  };
}

/** Oldest first. */
function ofTenant(disk: MemoryDisk, tenantId: TenantId): readonly StoredResponse[] {
  return [...disk.responses.values()]
    .filter((response) => response.tenantId === tenantId)
    .sort((a, b) => a.createdAtMs - b.createdAtMs || byId(a, b));
}

function find(disk: MemoryDisk, ref: ResponseRef, nowMs: number): StoredResponse | null {
  const found = disk.responses.get(ref.responseId);
  return found !== undefined && found.tenantId === ref.tenantId && found.expiresAtMs > nowMs ? found : null;
}
