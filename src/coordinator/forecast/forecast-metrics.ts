/** What the forecast shows of itself; docs/metrics.md says what each is for. Read from `stats()` when somebody asks. */
import { Gauge, type Registry } from "prom-client";
import { HOUR_MS } from "../../scheduler/forecast/life-table.ts";
import { SCORED_HORIZONS_MS } from "../../scheduler/forecast/survival-score.ts";
import type { Forecast, ForecastStats } from "./forecast.ts";

export function registerForecastMetrics(registry: Registry, forecast: Pick<Forecast, "stats">): void {
  const gauge = (name: string, help: string, value: (stats: ForecastStats) => number) =>
    new Gauge({
      name,
      help,
      registers: [registry],
      collect() {
        this.set(value(forecast.stats()));
      },
    });
  new Gauge({
    name: "fallow_survival_brier",
    help: "Brier score of the forecasts that nodes stay, since the start, by horizon",
    labelNames: ["horizon"],
    registers: [registry],
    collect() {
      forecast.stats().survival.forEach(({ brier }, at) => {
        const hours = (SCORED_HORIZONS_MS[at] ?? 0) / HOUR_MS;
        if (brier !== null) this.set({ horizon: `${hours}h` }, brier);
      });
    },
  });
  gauge(
    "fallow_staged_bytes",
    "Weights brought to nodes ahead of need, since the start",
    ({ stagedBytes }) => stagedBytes,
  );
  gauge(
    "fallow_staged_wasted_bytes",
    "Of these, given up before a load used them, since the start",
    ({ wastedBytes }) => wastedBytes,
  );
  gauge(
    "fallow_cold_starts_avoided",
    "Loads that found their weights staged, since the start",
    ({ coldStartsAvoided }) => coldStartsAvoided,
  );
}
