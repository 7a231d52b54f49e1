/** All that the forecast has learned, as it is kept. */
import type { DemandSnapshot } from "../../scheduler/forecast/demand-model.ts";
import type { ReuseSnapshot } from "../../scheduler/forecast/reuse-forecast.ts";
import type { SurvivalCore, SurvivalNodeRow } from "../../scheduler/forecast/survival-model.ts";

/** Grows with every change that an older or newer program would misread. */
export const COORDINATOR_FORECAST_VERSION = 1;

interface Learned {
  readonly savedAtMs: number;
  readonly demand: DemandSnapshot;
  readonly reuse: ReuseSnapshot;
}

/** As it was read back. */
export interface KeptForecast extends Learned {
  readonly survival: { readonly core: SurvivalCore; readonly nodes: readonly SurvivalNodeRow[] };
}

/** As it is written: nodes one after the other, because those of a large grid are not made into rows in one turn. */
export interface WrittenForecast extends Learned {
  readonly survival: { readonly core: SurvivalCore; readonly rows: Iterable<SurvivalNodeRow>; readonly size: number };
}
