import { SystemClock } from "../src/adapters/clock-system/system-clock.ts";
import { MemoryStore } from "../src/sim/store/memory-store.ts";
import { describeStoreContract } from "./support/store-contract.ts";

for (const writeLatencyMs of [0, 1]) {
  describeStoreContract(`memory with writes of ${writeLatencyMs} ms`, () => {
    const clock = new SystemClock();
    let store = new MemoryStore({ writeLatencyMs }, { clock });
    return Promise.resolve({
      store,
      reopen: () => {
        store.crash();
        store = new MemoryStore({ writeLatencyMs }, { clock, disk: store.disk });
        return Promise.resolve(store);
      },
      close: () => store.close(),
    });
  });
}
