/**
 * Whether machines stay, as the product forecasts it: the survival model learns from the comings and goings that a coordinator sees, and
 * its score decides whether the hour of the week has a say. `isOff` answers that everybody stays: the ablation.
 */
import { SurvivalModel } from "../../../scheduler/forecast/survival-model.ts";
import { SurvivalScore } from "../../../scheduler/forecast/survival-score.ts";
import type { GridNode } from "../grid/grid-parts.ts";

const HOUR_MS = 3_600_000;
/** Monday 1 January 2024, 00:00 UTC: hours of the week need a calendar. */
const MONDAY_MS = 1_704_067_200_000;
/** Chances are kept for so long: they change with hours. */
const KEPT_MS = 60_000;

export class NodeOutlook {
  readonly #model = new SurvivalModel();
  readonly #score = new SurvivalScore(this.#model);
  readonly #zeroMs: number;
  readonly #isOff: boolean;
  readonly #kept = new Map<string, { atMs: number; chance: number }>();
  #askedMs = Number.NEGATIVE_INFINITY;

  constructor(options: { readonly startHourOfWeekUtc: number; readonly isOff: boolean }) {
    this.#zeroMs = MONDAY_MS + options.startHourOfWeekUtc * HOUR_MS;
    this.#isOff = options.isOff;
  }

  observe(node: GridNode, transition: "up" | "left", atMs: number): void {
    const { name, cohort, zoneHours } = node.draw;
    this.#askUpTo(atMs);
    this.#model.observe({ nodeId: name, cohort, utcOffsetMinutes: zoneHours * 60 }, transition, this.#zeroMs + atMs);
    for (const horizonKey of [...this.#kept.keys()])
      if (horizonKey.startsWith(`${name} `)) this.#kept.delete(horizonKey);
  }

  /** Chance that the machine is there without a break for the horizon. */
  stays(node: GridNode, nowMs: number, horizonMs: number): number {
    if (this.#isOff) return 1;
    this.#askUpTo(nowMs);
    const key = `${node.draw.name} ${horizonMs}`;
    const kept = this.#kept.get(key);
    if (kept !== undefined && nowMs - kept.atMs < KEPT_MS) return kept.chance;
    const chance = this.#model.stayChance(node.draw.name, this.#zeroMs + nowMs, horizonMs);
    this.#kept.set(key, { atMs: nowMs, chance });
    return chance;
  }

  /** Once an hour the model counts who stayed and is scored, as the coordinator does it. */
  #askUpTo(nowMs: number): void {
    if (this.#isOff) return;
    if (this.#askedMs === Number.NEGATIVE_INFINITY) this.#askedMs = nowMs;
    while (this.#askedMs + HOUR_MS <= nowMs) {
      this.#askedMs += HOUR_MS;
      this.#model.advance(this.#zeroMs + this.#askedMs);
      this.#score.ask(this.#zeroMs + this.#askedMs);
    }
  }
}
