/** What chains show of themselves; docs/metrics.md says what each is for. Read when somebody asks. */
import { Gauge, type Registry } from "prom-client";
import type { ChainState } from "../../domain/chain.ts";
import type { ChainsView, ChainView } from "./chain-view.ts";

const STATES: readonly ChainState[] = ["loading", "linking", "serving", "broken"];

export function registerChainMetrics(registry: Registry, chains: ChainsView): void {
  const gauge = (name: string, help: string, value: () => number) =>
    new Gauge({
      name,
      help,
      registers: [registry],
      collect() {
        this.set(value());
      },
    });
  /** Of each chain; by model, the largest where a model has several. Null: nothing to show yet. */
  const ofModel = (name: string, help: string, value: (chain: ChainView) => number | null) =>
    new Gauge({
      name,
      help,
      labelNames: ["model"],
      registers: [registry],
      collect() {
        this.reset();
        for (const [model, of] of Map.groupBy(chains.chains(), ({ modelId }) => modelId)) {
          const shown = of.flatMap((chain) => value(chain) ?? []);
          if (shown.length > 0) this.set({ model }, Math.max(...shown));
        }
      },
    });
  new Gauge({
    name: "fallow_chains",
    help: "Chains of stages, by state",
    labelNames: ["state"],
    registers: [registry],
    collect() {
      const all = chains.chains();
      for (const state of STATES) this.set({ state }, all.filter((chain) => chain.state === state).length);
    },
  });
  gauge("fallow_chain_spares", "Stages that are loaded and in no chain", () => chains.spares().length);
  gauge("fallow_chain_repairs", "Lost stages that were replaced, since the start", () => chains.stats().repairs);
  gauge(
    "fallow_chain_moves",
    "Stages that moved while their chain served, since the start",
    () => chains.stats().moves,
  );
  gauge("fallow_chains_given_up", "Chains that nobody could mend, since the start", () => chains.stats().dissolved);
  gauge("fallow_chain_troubles", "Words of stages against stages, since the start", () => chains.stats().troubles);
  gauge(
    "fallow_chain_garbage",
    "Stages that gave what their model does not give, since the start",
    () => chains.stats().garbage,
  );
  ofModel("fallow_chain_recovery_seconds", "From a chain's newest break until it served again", ({ recoveryMs }) => {
    return recoveryMs === null ? null : recoveryMs / 1_000;
  });
  ofModel(
    "fallow_chain_loop_seconds",
    "One token's way through the chain and back to its first stage",
    ({ loopMs }) => {
      return loopMs === null ? null : loopMs / 1_000;
    },
  );
  ofModel("fallow_chain_bytes_per_position", "Bytes that a position takes on its way from stage to stage", bytesPerHop);
}

/** Of the mean hop; null before anything was sent. */
function bytesPerHop({ stages }: ChainView): number | null {
  const sent = stages.flatMap(({ times }) => times ?? []).filter(({ positionsSent }) => positionsSent > 0);
  const bytes = sent.reduce((sum, { bytesSent, positionsSent }) => sum + bytesSent / positionsSent, 0);
  return sent.length === 0 ? null : bytes / sent.length;
}
