/** The thread in which the coordinator plans its replicas: the scheduler's planner behind the adapter's messages. */
import { answerPlans } from "../../adapters/planner-worker/planner-thread.ts";
import { planPlacement } from "../../scheduler/placement/plan-placement.ts";

answerPlans(planPlacement);
