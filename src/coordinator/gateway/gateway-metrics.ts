/** What the gateway counts; docs/metrics.md says what each is for. */
import { Counter, Gauge, Histogram, type Registry } from "prom-client";
import { LegMetrics } from "./legs/leg-metrics.ts";

/** From a cached prompt on this machine to a long answer. */
const SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600];

export class GatewayMetrics {
  readonly requests: Counter<"route" | "status">;
  readonly requestSeconds: Histogram<"route">;
  readonly firstTokenSeconds: Histogram;
  readonly tokens: Counter<"direction">;
  readonly streamsOpen: Gauge;
  readonly requestsOpen: Gauge;
  readonly clientsGone: Counter<"cause">;
  readonly legs: LegMetrics;

  constructor(registry: Registry) {
    const registers = [registry];
    this.legs = new LegMetrics(registry);
    this.requests = new Counter({
      name: "fallow_requests_total",
      help: "HTTP requests by route and status",
      labelNames: ["route", "status"],
      registers,
    });
    this.requestSeconds = new Histogram({
      name: "fallow_request_seconds",
      help: "From a request's arrival to the end of its answer",
      labelNames: ["route"],
      buckets: SECONDS,
      registers,
    });
    this.firstTokenSeconds = new Histogram({
      name: "fallow_time_to_first_token_seconds",
      help: "From a request's arrival to its first token",
      buckets: SECONDS,
      registers,
    });
    this.tokens = new Counter({
      name: "fallow_tokens_total",
      help: "Tokens charged, by direction (prompt, output)",
      labelNames: ["direction"],
      registers,
    });
    this.streamsOpen = new Gauge({
      name: "fallow_streams_open",
      help: "Event streams that are being written",
      registers,
    });
    this.requestsOpen = new Gauge({
      name: "fallow_requests_open",
      help: "Generations and embeddings that run",
      registers,
    });
    this.clientsGone = new Counter({
      name: "fallow_clients_gone_total",
      help: "Answers that nobody read to the end, by cause (closed, stalled)",
      labelNames: ["cause"],
      registers,
    });
  }
}
