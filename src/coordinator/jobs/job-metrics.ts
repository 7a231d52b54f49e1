import { Counter, Gauge, type Registry } from "prom-client";

export class JobMetrics {
  readonly linesInFlight: Gauge;
  readonly lines: Counter<"outcome">;
  readonly live: Gauge;

  constructor(registry: Registry) {
    const registers = [registry];
    this.live = new Gauge({ name: "fallow_batches_live", help: "Batches that have not ended", registers });
    this.linesInFlight = new Gauge({
      name: "fallow_batch_lines_in_flight",
      help: "Lines of batches that run or wait for a slot",
      registers,
    });
    this.lines = new Counter({
      name: "fallow_batch_lines_total",
      help: "Lines of batches that were answered, by outcome (completed, failed, retried, set-aside)",
      labelNames: ["outcome"],
      registers,
    });
  }
}
