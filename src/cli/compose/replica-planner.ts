import { WorkerPlanner } from "../../adapters/planner-worker/worker-planner.ts";
import type { Planner } from "../../ports/planner.ts";
import { buffersOf } from "../../scheduler/placement/grid-columns.ts";
import type { PlacementPlan, PlanQuestion } from "../../scheduler/placement/plan-question.ts";

/** Plans replicas in a thread of its own. */
export function openReplicaPlanner(): Planner<PlanQuestion, PlacementPlan> {
  // Compiled, this file and the thread's are .js; in a clone both are .ts.
  const entry = new URL(`./planning-thread${import.meta.url.slice(-3)}`, import.meta.url);
  return new WorkerPlanner({ entry, buffersOf: ({ grid }) => buffersOf(grid) });
}
