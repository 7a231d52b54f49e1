import type { ProviderStore } from "../../ports/store.ts";
import type { MemoryRead, MemoryWrite } from "./memory-disk.ts";

/** Cloud providers of the memory store. */
export function memoryProviders(read: MemoryRead, write: MemoryWrite): ProviderStore {
  return {
    put: (spec) => write((disk) => void disk.providers.set(spec.providerId, spec)),
    get: (providerId) => read((disk) => disk.providers.get(providerId) ?? null),
    list: () =>
      read((disk) => [...disk.providers.values()].sort((left, right) => (left.providerId < right.providerId ? -1 : 1))),
    remove: (providerId) => write((disk) => disk.providers.delete(providerId)),
  };
}
