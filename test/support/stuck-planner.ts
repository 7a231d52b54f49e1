/** A planning thread with bugs: the question says which. */
import { answerPlans } from "../../src/adapters/planner-worker/planner-thread.ts";

export type Trouble = "none" | "loops" | "eats-memory" | "ends";

answerPlans((trouble: Trouble): Trouble => {
  const eaten: number[][] = [];
  if (trouble === "ends") process.exit(7);
  while (trouble === "loops" || trouble === "eats-memory") {
    if (trouble === "eats-memory") eaten.push(Array.from({ length: 100_000 }, (_, at) => at + eaten.length / 2));
  }
  return trouble;
});
