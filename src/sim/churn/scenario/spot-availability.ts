/**
 * Availability from the measured series of spot capacity: the machine is up while its zone had capacity. Each node gets a series
 * and a start in it from the seed; a series that is shorter than the run and its history goes round. What a zone's nodes have in
 * common is lost where they start at different points: that is not handled.
 */
import { assert } from "../../../domain/assert.ts";
import type { SeededRandom } from "../../time/random.ts";
import type { Availability, Span, UpInterval } from "./availability.ts";
import type { SpotSeries } from "./churn-traces.ts";

export function spotAvailability(series: SpotSeries, span: Span, random: SeededRandom): Availability {
  const { gapMs, isUp } = series;
  assert(isUp.length > 0, `${series.name} has ticks`);
  const startTick = random.between(0, isUp.length - 1);
  // A tick's edge lies anywhere, or all nodes of one source would change in the same instant.
  const shiftMs = random.fraction() * gapMs;
  const intervals: UpInterval[] = [];
  let upSinceMs: number | null = null;
  const ticks = Math.ceil((span.toMs - span.fromMs) / gapMs) + 1;
  for (let tick = 0; tick <= ticks; tick++) {
    const atMs = Math.max(span.fromMs, span.fromMs + tick * gapMs - shiftMs);
    const isOver = tick === ticks || atMs >= span.toMs;
    const isHere = !isOver && isUp[(startTick + tick) % isUp.length] === true;
    if (isHere && upSinceMs === null) upSinceMs = atMs;
    if (!isHere && upSinceMs !== null) {
      intervals.push({ fromMs: upSinceMs, toMs: Math.min(atMs, span.toMs), end: "vanished" });
      upSinceMs = null;
    }
    if (isOver) break;
  }
  return { intervals, keepsDisk: false };
}
