/** What relaying shows of itself; docs/metrics.md says what each is for. */
import { Gauge, type Registry } from "prom-client";
import type { RelayDesk } from "./relay-desk.ts";

export function registerRelayMetrics(registry: Registry, relay: Pick<RelayDesk, "stats">): void {
  new Gauge({
    name: "fallow_relays_open",
    help: "Relayed connections between nodes that are open or offered",
    registers: [registry],
    collect() {
      const { offered, piping } = relay.stats();
      this.set(offered + piping);
    },
  });
  new Gauge({
    name: "fallow_relay_bytes_total",
    help: "Bytes relayed between nodes, since the start",
    registers: [registry],
    collect() {
      this.set(relay.stats().bytes);
    },
  });
  new Gauge({
    name: "fallow_relays_refused",
    help: "Relayed connections that were refused, since the start",
    labelNames: ["code"],
    registers: [registry],
    collect() {
      for (const [code, count] of Object.entries(relay.stats().refused)) this.set({ code }, count);
    },
  });
}
