/**
 * The machine's clock jumps, forwards and back, under a grid that works: libfaketime gives the coordinator another time of day,
 * while the monotonic clock goes on, as it does when an operator or an NTP daemon sets the clock.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { findFaketime, isCi } from "../tools/test-tools.ts";
import { field, list } from "./support/exchange.ts";
import { makeHome, removeHome, startGrid } from "./support/grid.ts";
import { adminGet, askText, expectBalanced, makeJoinCode, until } from "./support/grid-console.ts";
import { startLyingAgent } from "./support/lying-agent.ts";

const HOUR_S = 3_600;
const QUESTION = { prompt: "In the beginning", tokens: 32, seed: 5 } as const;
const faketime = findFaketime();

describe("a clock that jumps", () => {
  it.skipIf(faketime === null && !isCi())("neither loses nodes nor cuts answers nor unbalances the books", async () => {
    const home = makeHome();
    const timeFile = join(home, "faketime");
    const jumpTo = (offsetS: number) => writeFileSync(timeFile, `${offsetS >= 0 ? "+" : ""}${offsetS}\n`);
    jumpTo(0);
    const env = {
      LD_PRELOAD: faketime ?? "",
      FAKETIME_TIMESTAMP_FILE: timeFile,
      FAKETIME_NO_CACHE: "1",
      FAKETIME_DONT_FAKE_MONOTONIC: "1",
      FAKETIME_DONT_RESET: "1",
    };
    const grid = await startGrid({ home, env });
    try {
      const nodes = async () => list(field(await adminGet(grid, "/nodes"), "nodes"));
      const text = await askText(grid, QUESTION);
      const joinedBefore = await makeJoinCode(grid);
      for (const offsetS of [HOUR_S, -HOUR_S, 400 * 24 * HOUR_S, -30 * 365 * 24 * HOUR_S, 0]) {
        const during = askText(grid, QUESTION);
        jumpTo(offsetS);
        expect(await during, `while the clock jumped to ${offsetS}`).toBe(text);
        expect(await askText(grid, QUESTION), `after the clock jumped to ${offsetS}`).toBe(text);
        const serversMs = Number(field(await adminGet(grid, "/status"), "nowMs"));
        const offMs = Math.abs(serversMs - (Date.now() + offsetS * 1_000));
        expect(offMs, "the jump reached the coordinator").toBeLessThan(60_000);
        expect((await nodes()).map((node) => field(node, "state"))).toEqual(["online"]);
        await expectBalanced(grid);
      }
      // A code for a day that was made before the clock went there and back is as good as it was.
      await using agent = await startLyingAgent(joinedBefore);
      await until("the second node is online", async () =>
        (await nodes()).some((node) => field(node, "nodeId") === agent.nodeId && field(node, "state") === "online"),
      );
    } finally {
      await grid.stop();
      removeHome(home);
    }
  });
});
