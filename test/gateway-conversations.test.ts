/** Kept answers of `/v1/responses` over the real gateway and store: gone on from, named, listed, deleted, expired. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { startResponseSweep } from "../src/coordinator/gateway/responses/response-sweep.ts";
import { FallowError } from "../src/domain/fault.ts";
import { responseId } from "../src/domain/ids.ts";
import type { Tokenizer } from "../src/ports/tokenizer.ts";
import { simLog } from "../src/sim/sim-log.ts";
import { deletedResponseSchema, responseItemListSchema } from "../src/wire/openai/response-object.ts";
import { answering, GatewayFixture } from "./support/gateway-fixture.ts";
import { answered, CALL, lastPrompt, OPEN, refused, WEATHER } from "./support/response-asks.ts";
import { aTenant } from "./support/store-samples.ts";
import { openTiny } from "./support/tokenizer-fixture.ts";

let tokenizer: Tokenizer;
let closeTokenizer: () => Promise<void>;
let grid: GatewayFixture;

beforeAll(async () => {
  ({ tokenizer, close: closeTokenizer } = await openTiny());
});
afterAll(async () => {
  await closeTokenizer();
});
beforeEach(async () => {
  grid = await GatewayFixture.open(tokenizer);
});
afterEach(async () => {
  await grid.close();
});

describe("a conversation", () => {
  test("goes on from a kept answer with its input, output and calls, but not its instructions", async () => {
    grid.onGenerate = answering(grid, CALL);
    const first = await answered(grid, { input: "Weather in Oslo?", tools: [WEATHER], instructions: "Be brief." });
    const call = first.output.find((item) => item.type === "function_call");
    grid.onGenerate = answering(grid, "Rain.");
    const second = await answered(grid, {
      previous_response_id: first.id,
      input: [{ type: "function_call_output", call_id: call?.call_id, output: "Rain, 7 degrees" }],
      tools: [WEATHER],
    });
    expect(second.previous_response_id).toBe(first.id);
    const third = await answered(grid, { previous_response_id: second.id, input: "And then?" });
    const prompt = lastPrompt(grid);
    for (const said of ["Weather in Oslo?", "Rain, 7 degrees", "Rain.", "And then?"]) expect(prompt).toContain(said);
    expect(prompt).not.toContain("Be brief.");
    expect(prompt.indexOf("Rain, 7 degrees")).toBeLessThan(prompt.indexOf("And then?"));
    expect(third.status).toBe("completed");
  });

  test("takes references to items of kept answers in place of the items", async () => {
    grid.onGenerate = answering(grid, "A unicorn.");
    const first = await answered(grid, { input: "Tell me." });
    const second = await answered(grid, {
      input: [
        { role: "user", content: "Tell me." },
        { type: "item_reference", id: first.output[0]?.id },
        { id: first.output[0]?.id },
        { role: "user", content: "More." },
      ],
    });
    expect(lastPrompt(grid).split("A unicorn.")).toHaveLength(3);
    const listed = responseItemListSchema.parse(
      await (await grid.request(`/v1/responses/${second.id}/input_items?order=asc&limit=2`)).json(),
    );
    expect(listed.has_more).toBe(true);
    expect(listed.data[1]).toMatchObject({ role: "assistant", content: [{ type: "output_text", text: "A unicorn." }] });
    const rest = await grid.request(`/v1/responses/${second.id}/input_items?order=asc&after=${listed.last_id}`);
    expect(responseItemListSchema.parse(await rest.json())).toMatchObject({ data: [{}, {}], has_more: false });
    expect(await refused(grid, { input: [{ type: "item_reference", id: "msg_unknown" }] })).toMatchObject({
      param: "input[0].id",
    });
  });

  test("takes references to no more of them than a body holds", async () => {
    grid.onGenerate = answering(grid, "Yes.");
    const { id, output } = await answered(grid);
    const kept = await grid.store.responses.get({ responseId: responseId(id), tenantId: aTenant(1).tenantId }, 0);
    if (kept === null) throw new Error("it was kept");
    const ids = [1, 2, 3].map((number) => responseId(`resp_${String(number).padStart(26, "0")}`));
    for (const one of ids) {
      const item = { id: `msg_${one.slice(5)}_i0`, type: "message", role: "user", content: "x".repeat(4_000_000) };
      await grid.store.responses.put({ ...kept, responseId: one, inputJson: JSON.stringify([item]) }, OPEN);
    }
    const all = ids.map((one) => ({ type: "item_reference", id: `msg_${one.slice(5)}_i0` }));
    expect(await refused(grid, { input: all })).toMatchObject({
      param: "input[2].id",
      message: expect.stringMatching(/10485760/),
    });
    expect(await refused(grid, { input: Array(257).fill({ id: output[0]?.id }) })).toMatchObject({ param: "input" });
  });

  test("that breaks, or belongs to another tenant, is refused by the id that is not there", async () => {
    grid.onGenerate = answering(grid, "Yes.");
    const first = await answered(grid);
    const second = await answered(grid, { previous_response_id: first.id });
    const removed = await grid.request(`/v1/responses/${first.id}`, undefined, { method: "DELETE" });
    expect(deletedResponseSchema.parse(await removed.json())).toMatchObject({ id: first.id, deleted: true });
    for (const previous of [second.id, first.id]) {
      const error = await refused(grid, { previous_response_id: previous });
      expect(error).toMatchObject({ param: "previous_response_id", code: "invalid_request" });
      expect(error.message).toContain(first.id);
    }
    const unkept = await answered(grid, { store: false });
    expect(unkept.store).toBe(false);
    expect(await refused(grid, { previous_response_id: unkept.id })).toMatchObject({ param: "previous_response_id" });
    expect(await refused(grid, { previous_response_id: "nonsense" })).toMatchObject({ param: "previous_response_id" });
    expect((await grid.request(`/v1/responses/${unkept.id}`)).status).toBe(404);
  });

  test("with truncation auto leaves out its oldest messages, and no others", async () => {
    grid.onGenerate = answering(grid, "Yes.");
    const long = "word ".repeat(120);
    const input = [
      { role: "developer", content: "The rule." },
      ...Array.from({ length: 12 }, (_, index) => ({ role: "user", content: `Part ${index}. ${long}` })),
    ];
    expect(await refused(grid, { input })).toMatchObject({ code: "context_length_exceeded", param: "input" });
    await answered(grid, { input, truncation: "auto" });
    const prompt = lastPrompt(grid);
    expect(prompt).toContain("The rule.");
    expect(prompt).toContain("Part 11.");
    expect(prompt).not.toContain("Part 0.");
    const kept = [...prompt.matchAll(/Part (\d+)\./g)].map(([, number]) => Number(number));
    expect(kept).toEqual(Array.from({ length: kept.length }, (_, index) => 12 - kept.length + index));
    const asked = grid.generations.at(-1)?.request;
    expect((asked?.promptTokenIds.length ?? 0) + (asked?.tokensMax ?? 0)).toBe(1024);
    expect(asked?.tokensMax).toBeGreaterThanOrEqual(256);
  });

  test("expires after 30 days, and the sweep removes it", async () => {
    grid.onGenerate = answering(grid, "Yes.");
    const { id } = await answered(grid);
    const log = simLog((line) => grid.logged.push(line.event));
    const sweep = startResponseSweep({ store: grid.store.responses, clock: grid.clock, log });
    await grid.pass(30 * 86_400_000 - 10_000);
    expect((await grid.request(`/v1/responses/${id}`)).status).toBe(200);
    await grid.pass(20_000);
    expect((await grid.request(`/v1/responses/${id}`)).status).toBe(404);
    sweep.stop();
    expect(await refused(grid, { previous_response_id: id })).toMatchObject({ param: "previous_response_id" });
  });
});

describe("kept responses", () => {
  test("that the store does not take are answered all the same, and say that they were not kept", async () => {
    grid.onGenerate = answering(grid, "Yes.");
    const fault = new FallowError("store-unavailable", "the disk is gone");
    grid.store.responses.put = () => Promise.reject(fault);
    const response = await answered(grid);
    expect(response).toMatchObject({ status: "completed", store: false });
    expect(grid.logged.some((line) => line.includes("response not kept"))).toBe(true);
    expect((await grid.request(`/v1/responses/${response.id}`)).status).toBe(404);
  });

  test("cannot be cancelled, streamed again, or compacted, and are unknown under a wrong id", async () => {
    grid.onGenerate = answering(grid, "Yes.");
    const { id } = await answered(grid);
    const statuses = async (path: string, body?: object) => (await grid.request(path, body)).status;
    expect(await statuses(`/v1/responses/${id}/cancel`, {})).toBe(400);
    expect(await statuses(`/v1/responses/${id}?stream=true`)).toBe(400);
    expect(await statuses("/v1/responses/compact", { model: "tiny" })).toBe(400);
    for (const path of ["/v1/responses/resp_x", "/v1/responses/resp_x/input_items"])
      expect(await statuses(path)).toBe(404);
    expect(await statuses(`/v1/responses/${id}/input_items?limit=0`)).toBe(400);
    expect(await statuses(`/v1/responses/${id}/input_items?order=up`)).toBe(400);
    expect(await statuses(`/v1/responses/${id}/input_items?after=msg_none`)).toBe(400);
    expect((await grid.request("/v1/responses")).headers.get("allow")).toBe("POST");
  });
});
