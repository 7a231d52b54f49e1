/**
 * One panel per metric of `/metrics`. `metricsOf` reads Prometheus' text format: a counter or gauge is the sum over its labels, a
 * histogram its count and mean. docs/metrics.md says what each means; a tidy test holds the three lists together.
 */

const LINE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{[^}]*\})? (\S+)/;

/** Name of the metric → `{ value }`, or `{ count, sum }` of a histogram. */
export function metricsOf(text) {
  const found = new Map();
  for (const line of text.split("\n")) {
    const [, series, , number] = LINE.exec(line) ?? [];
    if (series === undefined) continue;
    const [, name, part] = /^(.*?)(?:_(bucket|sum|count))?$/.exec(series);
    const isHistogram = part === "bucket" || found.get(name)?.isHistogram === true;
    if (part === "bucket") {
      found.set(name, { isHistogram: true, count: 0, sum: 0, ...found.get(name) });
    } else if (isHistogram) {
      found.get(name)[part] += Number(number);
    } else {
      found.set(series, { value: (found.get(series)?.value ?? 0) + Number(number) });
    }
  }
  return found;
}

const rounded = (value) => (Number.isInteger(value) ? String(value) : value.toPrecision(4));

const meanOf = (metric, { unit, factor }) =>
  metric === undefined || metric.count === 0
    ? "none yet"
    : `${((metric.sum / metric.count) * factor).toFixed(1)}${unit} mean of ${metric.count}`;

const shows = {
  count: (metric) => (metric === undefined ? "none yet" : rounded(metric.value ?? 0)),
  seconds: (metric) =>
    metric === undefined || metric.count === 0
      ? "none yet"
      : `${((metric.sum / metric.count) * 1_000).toFixed(1)} ms mean of ${metric.count}`,
  microseconds: (metric) => meanOf(metric, { unit: " µs", factor: 1e6 }),
  mean: (metric) => meanOf(metric, { unit: "", factor: 1 }),
};

const panel = (name, title, kind) => ({ name, title, show: shows[kind] });

export const PANELS = [
  panel("fallow_requests_total", "HTTP requests", "count"),
  panel("fallow_request_seconds", "Time of a request", "seconds"),
  panel("fallow_time_to_first_token_seconds", "Time to the first token", "seconds"),
  panel("fallow_tokens_total", "Tokens charged", "count"),
  panel("fallow_requests_open", "Generations that run", "count"),
  panel("fallow_streams_open", "Streams that are written", "count"),
  panel("fallow_clients_gone_total", "Clients that went away", "count"),
  panel("fallow_attempts_running", "Attempts with a live lease", "count"),
  panel("fallow_requests_waiting", "Waiting for a slot", "count"),
  panel("fallow_attempts_started", "Attempts started", "count"),
  panel("fallow_attempts_moved", "Attempts moved to another node", "count"),
  panel("fallow_requests_failed", "Refused or given up by dispatch", "count"),
  panel("fallow_protocol_breaches", "Breaches of the protocol", "count"),
  panel("fallow_late_messages", "Messages of dead leases", "count"),
  panel("fallow_match_seconds", "Search for a replica", "microseconds"),
  panel("fallow_match_replicas_looked_at", "Replicas looked at", "mean"),
  panel("fallow_requests_explained", "Requests that can be explained", "count"),
  panel("fallow_queue_wait_seconds", "Wait for a slot", "seconds"),
  panel("fallow_queue_eta_error_seconds", "Error of the promised wait", "seconds"),
  panel("fallow_attempts_preempted", "Attempts preempted for priority", "count"),
  panel("fallow_hedges_won", "Hedges that were first", "count"),
  panel("fallow_hedges_lost", "Hedges that were not", "count"),
  panel("fallow_tenant_largest_share_ratio", "Share of the largest tenant", "count"),
  panel("fallow_tenant_jain_index_ratio", "Fairness between tenants (1 is equal)", "count"),
  panel("fallow_survival_brier", "Error of node survival forecasts (Brier, 1 h + 4 h + 12 h)", "count"),
  panel("fallow_staged_bytes", "Bytes staged ahead of need", "count"),
  panel("fallow_staged_wasted_bytes", "Of these, wasted", "count"),
  panel("fallow_cold_starts_avoided", "Cold starts avoided by staging", "count"),
  panel("fallow_weights_source_bytes_total", "Weights sent by the coordinator", "count"),
  panel("fallow_weights_peer_bytes_total", "Weights sent by nodes to nodes", "count"),
  panel("fallow_weights_wants_open", "Downloads of weights", "count"),
  panel("fallow_weights_claims_open", "Chunks on their way from the source", "count"),
  panel("fallow_weights_holders", "Nodes that serve weights", "count"),
  panel("fallow_weights_grants", "Fetch grants", "count"),
  panel("fallow_weights_messages_dropped", "Messages about weights dropped", "count"),
  panel("fallow_weights_refused_total", "Requests for weights refused", "count"),
  panel("fallow_peer_reports_total", "Reports about uploads of nodes", "count"),
  panel("fallow_peers_quarantined", "Nodes in quarantine", "count"),
  panel("fallow_plan_gap_ratio", "Gap of the placement plan", "count"),
  panel("fallow_plan_seconds", "Seconds of the placement plan", "count"),
  panel("fallow_plan_age_seconds", "Age of the placement plan in seconds", "count"),
  panel("fallow_planned_moved_bytes", "Bytes that loads had to move", "count"),
  panel("fallow_cold_starts", "Loads that somebody waited for", "count"),
  panel("fallow_plan_orders_dropped", "Orders that no longer stood", "count"),
  panel("fallow_chains", "Chains of stages", "count"),
  panel("fallow_chain_spares", "Spare stages", "count"),
  panel("fallow_chain_repairs", "Stages replaced", "count"),
  panel("fallow_chain_moves", "Stages moved", "count"),
  panel("fallow_chains_given_up", "Chains given up", "count"),
  panel("fallow_chain_troubles", "Words of stages against stages", "count"),
  panel("fallow_chain_garbage", "Stages that gave what their model does not give", "count"),
  panel("fallow_chain_recovery_seconds", "Seconds of a chain's newest recovery", "count"),
  panel("fallow_batches_live", "Batches that have not ended", "count"),
  panel("fallow_batch_lines_in_flight", "Lines of batches in flight", "count"),
  panel("fallow_batch_lines_total", "Lines of batches answered", "count"),
  panel("fallow_chain_loop_seconds", "Seconds of a token's way through a chain", "count"),
  panel("fallow_chain_bytes_per_position", "Bytes of a position between stages", "count"),
  panel("fallow_relays_open", "Relayed connections between nodes", "count"),
  panel("fallow_relay_bytes_total", "Bytes relayed between nodes", "count"),
  panel("fallow_relays_refused", "Relayed connections refused", "count"),
  panel("fallow_cloud_requests_total", "Requests to cloud providers", "count"),
  panel("fallow_cloud_failures_total", "Failed requests to cloud providers", "count"),
  panel("fallow_cloud_oddities_total", "Odd answers of cloud providers", "count"),
  panel("fallow_cloud_tokens_total", "Tokens of cloud providers", "count"),
  panel("fallow_cloud_cost_usd_total", "Cost of cloud providers in USD", "count"),
  panel("fallow_cloud_requests_running", "Requests at cloud providers", "count"),
  panel("fallow_cloud_breakers", "Cloud providers", "count"),
  panel("fallow_cloud_first_token_seconds", "First token of cloud providers, in seconds", "count"),
  panel("fallow_legs_total", "Parts of answers begun, where the cloud may take part", "count"),
  panel("fallow_leg_moves_total", "Answers that went on elsewhere", "count"),
  panel("fallow_cloud_charged_tokens_total", "Tokens of cloud providers charged", "count"),
  panel("fallow_cloud_usage_disagreements_total", "Usage of cloud providers that differs", "count"),
  panel("fallow_model_jobs", "Models on their way", "count"),
  panel("fallow_model_fetched_bytes_total", "Bytes of models fetched from hubs", "count"),
  panel("fallow_plan_refusals", "Nodes kept out by a constraint", "count"),
];
