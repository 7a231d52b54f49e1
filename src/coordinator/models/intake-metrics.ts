/** What bringing models shows of itself; docs/metrics.md says what each is for. */
import { Gauge, type Registry } from "prom-client";
import type { ModelIntake } from "./model-intake.ts";

export function registerIntakeMetrics(registry: Registry, intake: Pick<ModelIntake, "stats">): void {
  new Gauge({
    name: "fallow_model_jobs",
    help: "Models on their way into the grid, by what their job does",
    labelNames: ["state"],
    registers: [registry],
    collect() {
      for (const [state, count] of intake.stats().jobs) this.set({ state }, count);
    },
  });
  new Gauge({
    name: "fallow_model_fetched_bytes_total",
    help: "Bytes of models that came from hubs and addresses, since the start",
    registers: [registry],
    collect() {
      this.set(intake.stats().fetchedBytes);
    },
  });
}
