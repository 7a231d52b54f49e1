/** A thousand drawn requests: each is charged within its quote, or refused as quoted. */
import { expect, test } from "vitest";
import { SeededRandom } from "../../src/sim/time/random.ts";
import { GatewayFixture } from "../support/gateway-fixture.ts";
import { quoteAndSend } from "../support/quoted-requests.ts";
import { openTiny } from "../support/tokenizer-fixture.ts";

test("the charge of each of 1,000 drawn requests is within its quote", async () => {
  const { tokenizer, close } = await openTiny();
  const grid = await GatewayFixture.open(tokenizer);
  const counts = await quoteAndSend(grid, new SeededRandom("a thousand quotes"), 1_000);
  process.stdout.write(`quotes: ${JSON.stringify(counts)}\n`);
  expect(counts.answered).toBeGreaterThan(500);
  expect(await grid.balance()).toMatchObject({ held: 0 });
  await grid.close();
  await close();
});
