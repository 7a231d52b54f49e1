/** Rules of a caller on where his request runs: whatever breaks one gets nothing, which is counted at the provider's own server. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { refuse } from "../src/domain/refusal.ts";
import type { Tokenizer } from "../src/ports/tokenizer.ts";
import { type CloudGateway, openCloudGateway } from "./support/cloud-gateway.ts";
import { FINISH, says, stream, USAGE } from "./support/hostile-upstream.ts";
import { openTiny } from "./support/tokenizer-fixture.ts";

let tokenizer: Tokenizer;
let closeTokenizer: () => Promise<void>;
let cloud: CloudGateway;
beforeAll(async () => {
  ({ tokenizer, close: closeTokenizer } = await openTiny());
});
afterAll(async () => {
  await closeTokenizer();
});
beforeEach(async () => {
  cloud = await openCloudGateway(tokenizer);
});
afterEach(async () => {
  await cloud.close();
});

const NO_ROOM = refuse("queue-full", "everything is taken", { retryAfterMs: 3_000 }).reason;

describe("a hard rule lets nothing out", () => {
  const open = { max_tokens: 32, service_tier: "priority" };
  const refused = async (fields: object) => {
    cloud.grid.outlook = { ...cloud.grid.outlook, refusal: NO_ROOM };
    cloud.grid.onGenerate = (generation) => generation.fail(NO_ROOM);
    const response = await cloud.grid.chat({ ...open, ...fields });
    const body: { error: { message: string; code: string } } = JSON.parse(await response.text());
    expect(response.status).not.toBe(200);
    expect(cloud.server.asked).toHaveLength(0);
    expect(await cloud.grid.balance()).toMatchObject({ held: 0 });
    return body.error;
  };

  test.each([
    ["a region", { grid: { regions: ["mars"] } }, /mars/],
    ["an excluded region", { grid: { exclude_regions: ["eu"] } }, /eu/],
    ["a price of output", { provider: { max_price: { completion: 4.9 } } }, /5\.000000 USD/],
    ["a price of the prompt", { provider: { max_price: { prompt: 2.9 } } }, /3\.000000 USD/],
    ["a cost of the request", { grid: { max_cost_usd: 0.00001 } }, /max_cost_usd/],
    ["only others", { provider: { only: ["grid"] } }, /grid/],
    ["a provider to be ignored", { provider: { ignore: ["acme"] } }, /acme/],
    ["quantisation", { provider: { quantizations: ["fp8"] } }, /fp8/],
    ["zero retention", { provider: { zdr: true } }, /zdr/],
    ["grid only", { grid: { hybrid: "grid-only" } }, /./],
    ["confidentiality", { grid: { confidentiality: "own-nodes" } }, /own-nodes/],
  ])("%s", async (_, fields, message) => {
    await cloud.offer();
    expect((await refused(fields)).message).toMatch(message);
  });

  test("data collection", async () => {
    await cloud.offer({ dataPolicy: { collectsData: true, isZeroRetention: false } });
    expect((await refused({ provider: { data_collection: "deny" } })).message).toContain("data_collection");
  });

  test("and the same request without the rule goes out", async () => {
    await cloud.offer({ dataPolicy: { collectsData: true, isZeroRetention: false } });
    cloud.grid.outlook = { ...cloud.grid.outlook, refusal: NO_ROOM };
    cloud.server.act(stream([says({ content: "Hi" }), FINISH, USAGE]));
    expect((await cloud.grid.chat(open)).status).toBe(200);
    expect(cloud.server.asked).toHaveLength(1);
  });
});
