/** What the cloud desk shows of itself; docs/metrics.md says what each is for. There are as many labels as providers, which are bounded. */
import { Gauge, type Registry } from "prom-client";
import type { Cloud } from "../../ports/cloud.ts";
import type { CloudDesk } from "./cloud-desk.ts";
import type { ProviderNumbers } from "./provider-seat.ts";

type Source = Pick<CloudDesk, "numbers"> & Pick<Cloud, "list">;

/** One series per provider and label, from what each provider's numbers say. */
const FROM_NUMBERS: readonly {
  readonly name: string;
  readonly help: string;
  readonly label: string;
  readonly values: (numbers: ProviderNumbers) => Iterable<readonly [label: string, value: number]>;
}[] = [
  {
    name: "fallow_cloud_requests_total",
    help: "Requests to cloud providers that ended, since the start",
    label: "outcome",
    values: ({ succeeded, cancelled, failed }) => [
      ["succeeded", succeeded],
      ["cancelled", cancelled],
      ["failed", [...failed.values()].reduce((sum, count) => sum + count, 0)],
    ],
  },
  {
    name: "fallow_cloud_failures_total",
    help: "Failed requests to cloud providers, by what went wrong",
    label: "failure",
    values: ({ failed }) => failed,
  },
  {
    name: "fallow_cloud_oddities_total",
    help: "Answers of cloud providers that were odd and no failure",
    label: "what",
    values: ({ oddities }) => oddities,
  },
  {
    name: "fallow_cloud_tokens_total",
    help: "Tokens of cloud providers, as they count them",
    label: "direction",
    values: ({ promptTokens, outputTokens }) => [
      ["prompt", promptTokens],
      ["output", outputTokens],
    ],
  },
];

export function registerCloudMetrics(registry: Registry, cloud: Source): void {
  for (const { name, help, label, values } of FROM_NUMBERS) {
    new Gauge({
      name,
      help,
      labelNames: ["provider", label],
      registers: [registry],
      collect() {
        // A provider that was removed leaves no series behind.
        this.reset();
        for (const [provider, numbers] of cloud.numbers()) {
          for (const [value, count] of values(numbers)) this.set({ provider, [label]: value }, count);
        }
      },
    });
  }
  new Gauge({
    name: "fallow_cloud_cost_usd_total",
    help: "What cloud providers will charge for the answers since the start, by their own count",
    labelNames: ["provider"],
    registers: [registry],
    collect() {
      this.reset();
      for (const [provider, { costMicroUsd }] of cloud.numbers()) this.set({ provider }, costMicroUsd / 1e6);
    },
  });
  new Gauge({
    name: "fallow_cloud_requests_running",
    help: "Requests that cloud providers are answering",
    labelNames: ["provider"],
    registers: [registry],
    collect() {
      this.reset();
      for (const [provider, { running }] of cloud.numbers()) this.set({ provider }, running);
    },
  });
  registerHealth(registry, cloud);
}

function registerHealth(registry: Registry, cloud: Source): void {
  new Gauge({
    name: "fallow_cloud_breakers",
    help: "Cloud providers by the state of their breaker",
    labelNames: ["provider", "state"],
    registers: [registry],
    collect() {
      this.reset();
      for (const { spec, health } of cloud.list()) this.set({ provider: spec.providerId, state: health.breaker }, 1);
    },
  });
  new Gauge({
    name: "fallow_cloud_first_token_seconds",
    help: "Median time to the first token of a cloud provider's last answers",
    labelNames: ["provider"],
    registers: [registry],
    collect() {
      this.reset();
      for (const { spec, health } of cloud.list()) {
        if (health.firstTokenMsP50 !== null) this.set({ provider: spec.providerId }, health.firstTokenMsP50 / 1_000);
      }
    },
  });
}
