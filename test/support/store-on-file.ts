/** A store on a database file in a temporary folder, for the contract suite. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Store } from "../../src/ports/store.ts";
import type { OpenedStore } from "./store-contract.ts";

export async function onFile(openAt: (path: string) => Promise<Store>): Promise<OpenedStore> {
  const folder = await mkdtemp(join(tmpdir(), "fallow-store-"));
  const open = () => openAt(join(folder, "fallow.db"));
  let store = await open();
  return {
    store,
    reopen: async () => {
      await store.close();
      store = await open();
      return store;
    },
    close: async () => {
      await store.close();
      await rm(folder, { recursive: true });
    },
  };
}
