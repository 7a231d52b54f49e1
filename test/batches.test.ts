/** Files and batches against the real grid, by the stock client. */
import OpenAI, { toFile } from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { exchange, field, list, parsed } from "./support/exchange.ts";
import { type Grid, startGrid } from "./support/grid.ts";
import { adminGet, expectBalanced, until } from "./support/grid-console.ts";

let grid: Grid;
let client: OpenAI;

beforeAll(async () => {
  grid = await startGrid({ args: ["--threads", "1"] });
  client = new OpenAI({ baseURL: grid.apiUrl, apiKey: grid.apiKey, maxRetries: 0 });
});
afterAll(async () => {
  await expectBalanced(grid);
  await grid.stop();
});

const lineSchema = z.object({
  id: z.string(),
  custom_id: z.string(),
  response: z.object({ status_code: z.number(), request_id: z.string(), body: z.unknown() }).nullable(),
  error: z.object({ code: z.string(), message: z.string() }).nullable(),
});

function chatLine(name: string, more: object = {}) {
  const messages = [{ role: "user", content: `Tell of ${name}` }];
  const body = { model: "tiny", messages, max_completion_tokens: 6, seed: 3, ...more };
  return { custom_id: name, method: "POST", url: "/v1/chat/completions", body };
}

async function upload(lines: readonly unknown[]) {
  const text = lines.map((line) => (typeof line === "string" ? line : JSON.stringify(line))).join("\n");
  return await client.files.create({ file: await toFile(Buffer.from(`${text}\n`), "lines.jsonl"), purpose: "batch" });
}

async function submit(lines: readonly unknown[], more: object = {}) {
  const { id } = await upload(lines);
  return await client.batches.create({
    input_file_id: id,
    endpoint: "/v1/chat/completions",
    completion_window: "24h",
    ...more,
  });
}

async function ended(id: string): Promise<OpenAI.Batch> {
  let batch = await client.batches.retrieve(id);
  await until(`${id} ends`, async () => {
    batch = await client.batches.retrieve(id);
    return ["completed", "failed", "expired", "cancelled"].includes(batch.status);
  });
  return batch;
}

async function linesOf(id: string | null | undefined) {
  if (id === null || id === undefined) return [];
  const text = await (await client.files.content(id)).text();
  return text
    .trimEnd()
    .split("\n")
    .map((line) => lineSchema.parse(JSON.parse(line)));
}

describe("files", () => {
  test("are uploaded, listed, fetched and deleted as with OpenAI", async () => {
    const text = '{"a":"ü"}\n';
    const made = await client.files.create({
      file: await toFile(Buffer.from(text), "häuser.jsonl"),
      purpose: "batch",
    });
    expect(made).toMatchObject({
      object: "file",
      bytes: Buffer.byteLength(text),
      purpose: "batch",
      status: "processed",
    });
    expect(made.expires_at).toBe(made.created_at + 30 * 86_400);
    expect(await client.files.retrieve(made.id)).toEqual(made);
    expect(await (await client.files.content(made.id)).text()).toBe(text);
    const other = await client.files.create({ file: await toFile(Buffer.from("x"), "b.txt"), purpose: "user_data" });
    const names: string[] = [];
    for await (const file of client.files.list({ purpose: "user_data", limit: 1 })) names.push(file.filename);
    expect(names).toEqual(["b.txt"]);
    const all: string[] = [];
    for await (const file of client.files.list({ limit: 1, order: "asc" })) all.push(file.id);
    expect(all).toEqual([made.id, other.id]);
    expect(await client.files.delete(made.id)).toEqual({ id: made.id, object: "file", deleted: true });
    await expect(client.files.retrieve(made.id)).rejects.toMatchObject({ status: 404, param: "id" });
    await client.files.delete(other.id);
  });

  test("that are too large are refused by their declared length, before they are sent", async () => {
    const answer = await exchange({
      url: `${grid.apiUrl}/files`,
      key: grid.apiKey,
      method: "POST",
      headers: { "content-type": "multipart/form-data; boundary=x", "content-length": String(10 * 1024 ** 3) },
      body: Buffer.from(""),
    });
    expect(answer.status).toBe(413);
    expect(answer.body).toContain("request_too_large");
  });

  test.each([
    ["no purpose", { file: "x" }, 400, "purpose"],
    ["an unknown purpose", { file: "x", purpose: "batch_output" }, 400, "purpose"],
    ["no file", { purpose: "batch" }, 400, "file"],
    ["an empty file", { purpose: "batch", file: "" }, 400, "file"],
    ["a wrong expiry", { purpose: "batch", file: "x", "expires_after[anchor]": "now" }, 400, "expires_after[anchor]"],
  ])("with %s are refused", async (_, fields, status, param) => {
    const form = new FormData();
    for (const [name, value] of Object.entries(fields)) {
      if (name === "file") form.set(name, new Blob([value]), "a.jsonl");
      else form.set(name, value);
    }
    const headers = { authorization: `Bearer ${grid.apiKey}` };
    const answer = await fetch(`${grid.apiUrl}/files`, { method: "POST", headers, body: form });
    expect(answer.status).toBe(status);
    expect(field(field(await answer.json(), "error"), "param")).toBe(param);
  });
});

describe("a batch", () => {
  test("runs every line once, and gives results in the order of its lines with usage, counts and times", async () => {
    const names = Array.from({ length: 30 }, (_, at) => `line ${at}`);
    const made = await submit(
      names.map((name) => chatLine(name)),
      { metadata: { who: "Ann" } },
    );
    expect(made).toMatchObject({
      object: "batch",
      status: "validating",
      completion_window: "24h",
      metadata: { who: "Ann" },
    });
    const batch = await ended(made.id);
    expect(batch).toMatchObject({ status: "completed", model: "tiny", error_file_id: null, errors: null });
    expect(batch.request_counts).toEqual({ total: 30, completed: 30, failed: 0 });
    const results = await linesOf(batch.output_file_id);
    expect(results.map((line) => line.custom_id)).toEqual(names);
    expect(new Set(results.map((line) => line.response?.request_id)).size).toBe(30);
    for (const { response, error } of results) {
      expect(response?.status_code).toBe(200);
      expect(error).toBeNull();
      expect(response?.body).toMatchObject({ object: "chat.completion", service_tier: "flex" });
    }
    const used = results.reduce(
      (sum, { response }) => sum + Number(field(field(response?.body, "usage"), "total_tokens")),
      0,
    );
    expect(batch.usage?.total_tokens).toBe(used);
    const listed = await client.batches.list({ limit: 1 });
    expect(listed.data[0]?.id).toBe(made.id);
    const file = await client.files.retrieve(String(batch.output_file_id));
    expect(file.purpose).toBe("batch_output");
    const usage = parsed((await exchange({ url: `${grid.apiUrl}/grid/receipts`, key: grid.apiKey })).body);
    const ids = new Set(list(field(usage, "data")).map((receipt) => field(receipt, "request_id")));
    expect(results.every(({ response }) => ids.has(response?.request_id))).toBe(true);
  });

  test("puts lines whose request is wrong into the error file, and runs the others", async () => {
    const lines = [chatLine("good"), chatLine("bad", { temperature: 9 }), chatLine("also good")];
    const batch = await ended((await submit(lines)).id);
    expect(batch).toMatchObject({ status: "completed", request_counts: { total: 3, completed: 2, failed: 1 } });
    expect((await linesOf(batch.output_file_id)).map((line) => line.custom_id)).toEqual(["good", "also good"]);
    const errors = await linesOf(batch.error_file_id);
    expect(errors).toMatchObject([{ custom_id: "bad", response: { status_code: 400 }, error: null }]);
    expect(field(field(errors[0]?.response?.body, "error"), "param")).toBe("temperature");
  });

  test("runs completions, embeddings and responses too", async () => {
    const completion = {
      ...chatLine("c"),
      url: "/v1/completions",
      body: { model: "tiny", prompt: "And", max_tokens: 3 },
    };
    const embedding = { ...chatLine("e"), url: "/v1/embeddings", body: { model: "tiny", input: "And" } };
    const input = { model: "tiny", input: "Tell of Moses", max_output_tokens: 4, instructions: "Be brief." };
    const response = { ...chatLine("r"), url: "/v1/responses", body: input };
    const [completed, embedded, responded] = await Promise.all([
      submit([completion], { endpoint: "/v1/completions" }).then(({ id }) => ended(id)),
      submit([embedding], { endpoint: "/v1/embeddings" }).then(({ id }) => ended(id)),
      submit([response], { endpoint: "/v1/responses" }).then(({ id }) => ended(id)),
    ]);
    expect((await linesOf(completed.output_file_id))[0]?.response?.body).toMatchObject({ object: "text_completion" });
    expect((await linesOf(embedded.output_file_id))[0]?.response?.body).toMatchObject({ object: "list" });
    const answer = (await linesOf(responded.output_file_id))[0]?.response?.body;
    expect(answer).toMatchObject({ object: "response", model: "tiny", service_tier: "flex" });
    expect(Number(field(field(answer, "usage"), "output_tokens"))).toBeGreaterThan(0);
    expect(responded.usage?.output_tokens).toBe(field(field(answer, "usage"), "output_tokens"));
  });

  test.each([
    ["a line that is no JSON", ["{", chatLine("b")], "invalid_json_line", 1],
    ["a line that is no object", [chatLine("a"), "", "7"], "invalid_json_line", 3],
    ["the same custom_id twice", [chatLine("a"), chatLine("b"), chatLine("a")], "duplicate_custom_id", 3],
    ["another method", [{ ...chatLine("a"), method: "GET" }], "invalid_method", 1],
    ["another url", [chatLine("a"), { ...chatLine("b"), url: "/v1/embeddings" }], "url_mismatch", 2],
    ["no custom_id", [{ ...chatLine("a"), custom_id: undefined }], "missing_required_parameter", 1],
    ["no body", [{ ...chatLine("a"), body: undefined }], "missing_required_parameter", 1],
    ["a stream", [chatLine("a", { stream: true })], "unsupported_parameter", 1],
    ["two models", [chatLine("a"), chatLine("b", { model: "other" })], "mismatched_model", 2],
    ["a model that is not served", [chatLine("a", { model: "other" })], "model_not_found", 1],
    ["no lines", ["", " "], "empty_file", null],
  ])("with %s fails, says so with the line, and charges nothing", async (_, lines, code, line) => {
    const batch = await ended((await submit(lines)).id);
    expect(batch.status).toBe("failed");
    expect(batch.failed_at).toBeGreaterThan(0);
    expect(batch.errors?.data?.[0]).toMatchObject({ code, line });
    expect(batch.request_counts).toEqual({ total: 0, completed: 0, failed: 0 });
    expect(batch.output_file_id).toBeNull();
  });

  test("is refused with another window or endpoint, a file of another purpose, or one that is not there", async () => {
    const { id } = await upload([chatLine("a")]);
    const wanted = { input_file_id: id, endpoint: "/v1/chat/completions", completion_window: "24h" };
    const refused = async (more: object) => {
      const answer = await exchange({ url: `${grid.apiUrl}/batches`, key: grid.apiKey, body: { ...wanted, ...more } });
      return [answer.status, field(field(parsed(answer.body), "error"), "param")];
    };
    expect(await refused({ completion_window: "1h" })).toEqual([400, "completion_window"]);
    expect(await refused({ endpoint: "/v1/models" })).toEqual([400, "endpoint"]);
    expect(await refused({ endpoint: "/v1/messages" })).toEqual([400, "endpoint"]);
    expect(await refused({ metadata: { a: 1 } })).toEqual([400, "metadata.a"]);
    expect(await refused({ input_file_id: "file-nope" })).toEqual([404, "input_file_id"]);
    const data = await client.files.create({ file: await toFile(Buffer.from("x"), "x"), purpose: "user_data" });
    expect(await refused({ input_file_id: data.id })).toEqual([400, "input_file_id"]);
  });

  test("is paused and resumed, and when cancelled keeps what is done and charges nothing else", async () => {
    const names = Array.from({ length: 400 }, (_, at) => `n${at}`);
    const made = await submit(names.map((name) => chatLine(name, { max_completion_tokens: 40, ignore_eos: true })));
    await until(
      "some lines are done",
      async () => ((await client.batches.retrieve(made.id)).request_counts?.completed ?? 0) > 3,
    );
    const act = (what: string) =>
      exchange({ url: `${grid.apiUrl}/batches/${made.id}/${what}`, key: grid.apiKey, method: "POST" });
    expect(field(field(parsed((await act("pause")).body), "grid"), "is_paused")).toBe(true);
    await until("nothing runs", async () => {
      const shown = parsed((await exchange({ url: `${grid.apiUrl}/batches/${made.id}`, key: grid.apiKey })).body);
      return field(field(shown, "grid"), "lines_in_flight") === 0;
    });
    expect((await act("resume")).status).toBe(200);
    const before = (await client.batches.retrieve(made.id)).request_counts?.completed ?? 0;
    await until(
      "it goes on",
      async () => ((await client.batches.retrieve(made.id)).request_counts?.completed ?? 0) > before,
    );
    expect((await client.batches.cancel(made.id)).status).toBe("cancelling");
    const batch = await ended(made.id);
    expect(batch.status).toBe("cancelled");
    const results = await linesOf(batch.output_file_id);
    expect(results).toHaveLength(batch.request_counts?.completed ?? -1);
    expect(results.length).toBeLessThan(400);
    const order = results.map((line) => names.indexOf(line.custom_id));
    expect(order).toEqual([...order].sort((a, b) => a - b));
    const requests = list(field(await adminGet(grid, "/requests?limit=1000"), "requests"));
    const charged = new Set(requests.map((request) => field(request, "requestId")));
    expect(results.every(({ response }) => charged.has(response?.request_id))).toBe(true);
    await expect(client.batches.cancel((await submit(["{"]).then(({ id }) => ended(id))).id)).rejects.toMatchObject({
      status: 400,
    });
  });
});
