/** What dispatch shows of itself; docs/metrics.md says what each is for. Read from `stats()` when somebody asks. */
import { Gauge, Histogram, type Registry } from "prom-client";
import type { AdmissionDesk } from "./admission-desk.ts";
import type { Dispatcher } from "./dispatcher.ts";
import type { MatchLog } from "./match-log.ts";

export interface MeteredDispatch {
  stats: Dispatcher["stats"];
  readonly admission: Pick<AdmissionDesk, "subscribe" | "shares">;
  readonly matchLog: Pick<MatchLog, "subscribe" | "explains">;
}

/** A slot that is free takes no time; a full tier waits half a minute (admission.ts), a cold start of a large model minutes. */
const WAIT_BUCKETS_SECONDS = [0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300];

export function registerDispatchMetrics(registry: Registry, dispatcher: MeteredDispatch): void {
  registerWaits(registry, dispatcher);
  registerMatches(registry, dispatcher);
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
  gauge(
    "fallow_attempts_preempted",
    "Attempts that gave their slot to a priority request, since the start",
    ({ preempted }) => preempted,
  );
  gauge(
    "fallow_hedges_won",
    "Second attempts that gave the first token, since the start",
    ({ hedgesWon }) => hedgesWon,
  );
  gauge(
    "fallow_hedges_lost",
    "Second attempts that were cancelled since the first one was faster, since the start",
    ({ hedgesLost }) => hedgesLost,
  );
  gauge("fallow_late_messages", "Messages of dead leases, since the start", ({ lateMessages }) => lateMessages);
}

/** Microseconds over a few nodes, a millisecond over 100,000 (bench matching). */
const MATCH_BUCKETS_SECONDS = [5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 5e-3, 2.5e-2];
const LOOKED_BUCKETS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 1_024];

function registerMatches(registry: Registry, { matchLog }: MeteredDispatch): void {
  const registers = [registry];
  const seconds = new Histogram({
    name: "fallow_match_seconds",
    help: "Search for the replica of one attempt",
    buckets: MATCH_BUCKETS_SECONDS,
    registers,
  });
  const looked = new Histogram({
    name: "fallow_match_replicas_looked_at",
    help: "Replicas that the search for one attempt met",
    buckets: LOOKED_BUCKETS,
    registers,
  });
  matchLog.subscribe((news) => {
    seconds.observe(news.tookMs / 1_000);
    looked.observe(news.looked);
  });
  new Gauge({
    name: "fallow_requests_explained",
    help: "Requests that fallow status --explain can tell of",
    registers,
    collect() {
      this.set(matchLog.explains.size);
    },
  });
}

function registerWaits(registry: Registry, { admission }: MeteredDispatch): void {
  const registers = [registry];
  const waits = new Histogram({
    name: "fallow_queue_wait_seconds",
    help: "From a request's admission to its first attempt",
    labelNames: ["tier"],
    buckets: WAIT_BUCKETS_SECONDS,
    registers,
  });
  const errors = new Histogram({
    name: "fallow_queue_eta_error_seconds",
    help: "Between when a request that had to wait was expected to start and when it did",
    buckets: WAIT_BUCKETS_SECONDS,
    registers,
  });
  admission.subscribe({
    onWait: ({ tier, waitedMs, etaErrorMs }) => {
      waits.observe({ tier }, waitedMs / 1_000);
      if (etaErrorMs !== null) errors.observe(etaErrorMs / 1_000);
    },
  });
  new Gauge({
    name: "fallow_tenant_largest_share_ratio",
    help: "Part of the device time of the last minutes that the largest tenant took",
    registers,
    collect() {
      this.set(admission.shares().largestShare);
    },
  });
  new Gauge({
    name: "fallow_tenant_jain_index_ratio",
    help: "Jain's index of the tenants' device time of the last minutes: 1 when all took the same",
    registers,
    collect() {
      this.set(admission.shares().jainIndex);
    },
  });
}
