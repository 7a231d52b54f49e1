import { Counter, type Registry } from "prom-client";

/** Metrics of legs; docs/metrics.md says what each is for. */
export class LegMetrics {
  readonly begun: Counter<"kind">;
  readonly moved: Counter<"from" | "to" | "why">;
  readonly usageDisagreed: Counter<"provider">;
  readonly cloudTokens: Counter<"provider" | "direction">;

  constructor(registry: Registry) {
    const registers = [registry];
    this.begun = new Counter({
      name: "fallow_legs_total",
      help: "Parts of answers that were begun, by the kind of resource (grid, cloud); only of requests that may use both or the cloud",
      labelNames: ["kind"],
      registers,
    });
    this.moved = new Counter({
      name: "fallow_leg_moves_total",
      help: "Answers that went on elsewhere, from and to which kind of resource, and why (refused, lost, late)",
      labelNames: ["from", "to", "why"],
      registers,
    });
    this.usageDisagreed = new Counter({
      name: "fallow_cloud_usage_disagreements_total",
      help: "Parts whose usage a cloud provider counted otherwise than the grid, by more than is usual; the lesser is charged",
      labelNames: ["provider"],
      registers,
    });
    this.cloudTokens = new Counter({
      name: "fallow_cloud_charged_tokens_total",
      help: "Tokens charged for what cloud providers made, by provider and direction (prompt, output)",
      labelNames: ["provider", "direction"],
      registers,
    });
  }
}
