/** What dispatch shows of itself; docs/metrics.md says what each is for. Read from `stats()` when somebody asks. */
import { Gauge, type Registry } from "prom-client";
import type { Dispatcher } from "./dispatcher.ts";

export function registerDispatchMetrics(registry: Registry, dispatcher: Pick<Dispatcher, "stats">): void {
  const gauge = (name: string, help: string, value: (stats: ReturnType<Dispatcher["stats"]>) => number) =>
    new Gauge({
      name,
      help,
      registers: [registry],
      collect() {
        this.set(value(dispatcher.stats()));
      },
    });
  gauge("fallow_attempts_running", "Attempts with a live lease", ({ running }) => running);
  gauge("fallow_requests_waiting", "Choices and embeddings that wait for a slot", ({ waiting }) => waiting);
  gauge("fallow_attempts_started", "Attempts since the start", ({ started }) => started);
  gauge(
    "fallow_attempts_moved",
    "Attempts that were lost and went on elsewhere, since the start",
    ({ moved }) => moved,
  );
  gauge(
    "fallow_requests_failed",
    "Choices and embeddings that dispatch refused or gave up, since the start",
    ({ failed }) => failed,
  );
  gauge(
    "fallow_protocol_breaches",
    "Messages about attempts that broke the protocol, since the start",
    ({ breaches }) => breaches,
  );
  gauge("fallow_late_messages", "Messages of dead leases, since the start", ({ lateMessages }) => lateMessages);
}
