/** What the distribution of weights shows of itself; docs/metrics.md says what each is for. Read when somebody asks. */
import { Counter, Gauge, type Registry } from "prom-client";
import type { Clock } from "../../ports/clock.ts";
import type { WeightsDistribution } from "./distribution.ts";
import type { Swarm } from "./swarm.ts";

type Shown = Pick<WeightsDistribution, "tracker" | "endpoint" | "nameOf">;

export function registerWeightsMetrics(registry: Registry, shown: Shown, clock: Pick<Clock, "monoMs">): void {
  const { tracker, endpoint } = shown;
  const gauge = (name: string, help: string, value: () => number) =>
    new Gauge({
      name,
      help,
      registers: [registry],
      collect() {
        this.set(value());
      },
    });
  const perModel = (name: string, help: string, value: (swarm: Swarm) => number) =>
    new Counter({
      name,
      help,
      labelNames: ["model"],
      registers: [registry],
      collect() {
        this.reset();
        for (const swarm of tracker.swarms()) this.inc({ model: shown.nameOf(swarm.weightsSha256) }, value(swarm));
      },
    });
  const perCode = (name: string, help: string, counts: () => Readonly<Record<string, number>>) =>
    new Counter({
      name,
      help,
      labelNames: ["code"],
      registers: [registry],
      collect() {
        this.reset();
        for (const [code, count] of Object.entries(counts())) this.inc({ code }, count);
      },
    });
  perModel("fallow_weights_source_bytes_total", "Weights that the coordinator sent to nodes", (s) => s.sourceBytes);
  perModel("fallow_weights_peer_bytes_total", "Weights that came to nodes from other nodes, as they tell", (s) => {
    return s.peerChunks * s.chunkBytes;
  });
  gauge("fallow_weights_wants_open", "Downloads of weights that nodes have open", () => tracker.stats().wants);
  gauge("fallow_weights_claims_open", "Chunks that nodes are bringing from the source", () => {
    return tracker.swarms().reduce((sum, { claims }) => sum + claims.counts.live, 0);
  });
  gauge("fallow_weights_holders", "Nodes that serve chunks to others, counted once for each model", () => {
    const serving = ({ holdings }: Swarm) => [...holdings.values()].filter(({ uploadsMax }) => uploadsMax > 0).length;
    return tracker.swarms().reduce((sum, swarm) => sum + serving(swarm), 0);
  });
  gauge("fallow_weights_grants", "Fetch grants given out, since the start", () => tracker.stats().grants);
  gauge("fallow_weights_messages_dropped", "Messages about weights above what a node may send, since the start", () => {
    return tracker.stats().droppedMessages;
  });
  perCode("fallow_weights_refused_total", "Requests for weights that were refused", () => endpoint.stats().refused);
  perCode(
    "fallow_peer_reports_total",
    "Reports of nodes about uploads of others",
    () => tracker.reports.stats().reports,
  );
  gauge("fallow_peers_quarantined", "Nodes that are named to nobody because of what others reported", () => {
    return tracker.reports.quarantined(clock.monoMs()).length;
  });
}
