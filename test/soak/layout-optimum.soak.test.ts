/** The rest of the two hundred instances that test/layout-planner.test.ts begins. */
import { test } from "vitest";
import { expectOptimum, OBJECTIVES } from "../support/layout-optimum.ts";

const REST = { from: 60, to: 200 };

test.each(OBJECTIVES)(
  `the plan for %s equals the best of all layouts on instances ${REST.from} to ${REST.to}`,
  (objective) => expectOptimum(objective, REST),
);
