/** The other end of worker-planner.ts. What plans is handed in by the thread's entry, since adapters do not know the scheduler. */
import { parentPort } from "node:worker_threads";
import { assert } from "../../domain/assert.ts";
import { describeFault } from "../../domain/fault.ts";
import type { PlannerAnswer, PlannerCall } from "./planner-messages.ts";

/** Answers one question after the other, in the order in which they came. Called once, in a thread. */
export function answerPlans<Question, Plan>(plan: (question: Question) => Plan): void {
  const port = parentPort;
  assert(port !== null, "this runs in a thread");
  port.on("message", ({ id, question }: PlannerCall) => {
    // Both ends are of one build, and the other one is typed to ask this kind of question.
    port.postMessage(answered(id, () => plan(question as Question)));
  });
}

function answered(id: number, plan: () => unknown): PlannerAnswer {
  try {
    return { id, plan: plan(), fault: null };
  } catch (cause) {
    // A bug in a plan must not cost the grid its planner; the pool logs it, and goes on with its cheap rule.
    return { id, plan: null, fault: describeFault(cause) };
  }
}
