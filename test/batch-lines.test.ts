/** What becomes of a batch's lines, over a real store and real files; the grid behind them answers as the test says. */
import { describe, expect, test } from "vitest";
import { RUNNING_MAX } from "../src/coordinator/jobs/job-options.ts";
import { tenantId } from "../src/domain/ids.ts";
import { field, parsed } from "./support/exchange.ts";
import { type Answer, openJobBench, promptLine, refused, succeeded } from "./support/job-bench.ts";

const promptOf = (body: string) => String(field(parsed(body), "prompt"));
const lines = (count: number) => Array.from({ length: count }, (_, at) => promptLine(at));
const idsIn = (text: string) =>
  text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => field(parsed(line), "custom_id"));

describe("a batch's line", () => {
  test("is tried again after a fault, and set aside when it goes on failing, while the others get their results", async () => {
    const tries = new Map<string, number>();
    const answer: Answer = ({ body }) => {
      const prompt = promptOf(body);
      tries.set(prompt, (tries.get(prompt) ?? 0) + 1);
      const isFlaky = prompt === "line 1" && tries.get(prompt) === 1;
      return Promise.resolve(isFlaky || prompt === "line 2" ? refused(502, "upstream_lost") : succeeded());
    };
    await using bench = await openJobBench(answer);
    const { value } = await bench.ended(await bench.submit(await bench.upload(lines(5))));
    expect(value.record.status).toBe("completed");
    expect(value.counts).toMatchObject({ lines: 5, completed: 4, failed: 1, promptTokens: 8, outputTokens: 12 });
    expect([tries.get("line 0"), tries.get("line 1"), tries.get("line 2")]).toEqual([1, 2, 4]);
    expect(idsIn(await bench.text(value.record.outputFileId))).toEqual(["c0", "c1", "c3", "c4"]);
    const errors = await bench.text(value.record.errorFileId);
    expect(idsIn(errors)).toEqual(["c2"]);
    expect(field(field(parsed(errors.trim()), "response"), "status_code")).toBe(502);
  });

  test("waits while nothing can run, without a try counted, and says for what", async () => {
    let asked = 0;
    const answer: Answer = () => {
      asked += 1;
      return Promise.resolve(asked <= 3 ? refused(429, "insufficient_quota") : succeeded());
    };
    await using bench = await openJobBench(answer);
    const id = await bench.submit(await bench.upload(lines(2)));
    for (let waitsFor: string | null = null; waitsFor === null; ) {
      const found = await bench.jobs.find(bench.key.tenantId, id);
      waitsFor = found.ok ? (found.value.progress?.waitsFor ?? null) : "gone";
      expect([null, "insufficient_quota"]).toContain(waitsFor);
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    expect((await bench.ended(id)).value.counts).toMatchObject({ completed: 2, failed: 0 });
  });

  test("that was not run when the window ended is told as expired, beside what was done", async () => {
    const answer: Answer = ({ body, signal }) => {
      if (promptOf(body) !== "line 3") return Promise.resolve(succeeded());
      return new Promise((resolve) =>
        signal.addEventListener("abort", () => resolve(refused(499, "request_cancelled"))),
      );
    };
    await using bench = await openJobBench(answer, { windowMs: 700 });
    const { value } = await bench.ended(await bench.submit(await bench.upload(lines(6))));
    expect(value.record.status).toBe("expired");
    expect(idsIn(await bench.text(value.record.outputFileId))).toEqual(["c0", "c1", "c2", "c4", "c5"]);
    const error = parsed((await bench.text(value.record.errorFileId)).trim());
    expect(field(error, "custom_id")).toBe("c3");
    expect(field(field(error, "error"), "code")).toBe("batch_expired");
    expect(field(error, "response")).toBeNull();
  });

  test("runs again with the same request id in the next life, known as one that may be paid; what has its result does not", async () => {
    const runs: { prompt: string; requestId: string; run: string | undefined }[] = [];
    const stuck: Answer = ({ body, requestId }, book) => {
      runs.push({ prompt: promptOf(body), requestId, run: book.get(requestId)?.run });
      return promptOf(body) === "line 1" ? new Promise(() => undefined) : Promise.resolve(succeeded());
    };
    await using bench = await openJobBench(stuck);
    const id = await bench.submit(await bench.upload(lines(3)));
    for (let done = 0; done < 2; ) {
      const found = await bench.jobs.find(bench.key.tenantId, id);
      done = found.ok ? found.value.counts.completed : 0;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await bench.restart(true, ({ body, requestId }, book) => {
      runs.push({ prompt: promptOf(body), requestId, run: book.get(requestId)?.run });
      return Promise.resolve(succeeded());
    });
    const { value } = await bench.ended(id);
    expect(value.counts).toMatchObject({ completed: 3, failed: 0 });
    const again = runs.filter(({ prompt }) => prompt === "line 1");
    expect(runs).toHaveLength(4);
    expect(new Set(again.map(({ requestId }) => requestId)).size).toBe(1);
    expect(again.map(({ run }) => run)).toEqual(["1.1", "2.1"]);
    expect(idsIn(await bench.text(value.record.outputFileId))).toEqual(["c0", "c1", "c2"]);
  });

  test("that ends the coordinator again and again is set aside, and the batch goes on", async () => {
    const poisoned: Answer = () => new Promise(() => undefined);
    await using bench = await openJobBench(poisoned);
    const id = await bench.submit(await bench.upload(lines(3)));
    for (let life = 0; life < 7; life++) {
      // A life is killed once it runs a line.
      for (let isAtWork = false; !isAtWork; ) {
        const found = await bench.jobs.find(bench.key.tenantId, id);
        isAtWork = found.ok && (found.value.counts.failed > 0 || (found.value.progress?.linesInFlight ?? 0) > 0);
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      if (life < 6) await bench.restart(true, poisoned);
    }
    await bench.restart(true, () => Promise.resolve(succeeded()));
    const { value } = await bench.ended(id);
    expect(value.counts).toMatchObject({ completed: 2, failed: 1 });
    const error = parsed((await bench.text(value.record.errorFileId)).trim());
    expect([field(error, "custom_id"), field(field(error, "error"), "code")]).toEqual(["c0", "request_set_aside"]);
  });
});

test("a key that is revoked ends its running batch, and its changed rules reach lines that have not begun", async () => {
  const rates = new Set<number | null>();
  const answer: Answer = async ({ key, signal }) => {
    rates.add(key.tokensPerMinuteMax);
    await new Promise((resolve) => setTimeout(resolve, 5));
    return signal.aborted ? refused(499, "request_cancelled") : succeeded();
  };
  await using bench = await openJobBench(answer, { keyLookMs: 20 });
  const id = await bench.submit(await bench.upload(lines(5_000)));
  const { keyId } = bench.key;
  await bench.store.keys.update(keyId, { tokensPerMinuteMax: 77 });
  while (!rates.has(77)) await new Promise((resolve) => setTimeout(resolve, 5));
  await bench.store.keys.revoke(keyId, Date.now());
  const { value } = await bench.ended(id);
  expect(value.record.status).toBe("cancelled");
  expect(value.counts.completed).toBeLessThan(5_000);
});

test("batches of which nothing can run keep nobody else's out", async () => {
  const answer: Answer = ({ body }) =>
    Promise.resolve(promptOf(body) === "line 0" ? refused(503, "no_capable_node") : succeeded());
  await using bench = await openJobBench(answer);
  const stuck = await bench.upload(lines(1));
  const ids = await Promise.all(Array.from({ length: RUNNING_MAX }, () => bench.submit(stuck)));
  for (const id of ids) {
    for (let waitsFor: string | null = null; waitsFor === null; ) {
      const found = await bench.jobs.find(bench.key.tenantId, id);
      waitsFor = found.ok ? (found.value.progress?.waitsFor ?? null) : "gone";
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }
  const { value } = await bench.ended(await bench.submit(await bench.upload([promptLine(1)])));
  expect(value.counts).toMatchObject({ completed: 1, failed: 0 });
  for (const id of ids) {
    const found = await bench.jobs.find(bench.key.tenantId, id);
    expect(found.ok && found.value.record.status).toMatch(/^(validating|in_progress)$/);
  }
});

test("lines that nothing can run keep those behind them out no longer than until all were asked once", async () => {
  const answer: Answer = ({ body }) =>
    Promise.resolve(Number(promptOf(body).slice("line ".length)) < 8 ? refused(503, "no_capable_node") : succeeded());
  await using bench = await openJobBench(answer);
  const id = await bench.submit(await bench.upload(lines(12)));
  for (let done = 0; done < 4; ) {
    const found = await bench.jobs.find(bench.key.tenantId, id);
    done = found.ok ? found.value.counts.completed : 4;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  const found = await bench.jobs.find(bench.key.tenantId, id);
  expect(found.ok && found.value.counts).toMatchObject({ completed: 4, failed: 0 });
});

test("files and batches of another tenant are not there", async () => {
  await using bench = await openJobBench(() => Promise.resolve(succeeded()));
  const file = await bench.upload(lines(1));
  const id = await bench.submit(file);
  await bench.ended(id);
  const other = tenantId(`ten_${"9".repeat(26)}`);
  expect(await bench.jobs.files.find(other, file)).toMatchObject({ ok: false, reason: { code: "not-found" } });
  expect(await bench.jobs.find(other, id)).toMatchObject({ ok: false, reason: { code: "not-found" } });
  expect(await bench.jobs.cancel(other, id)).toMatchObject({ ok: false, reason: { code: "not-found" } });
  const wanted = { endpoint: "/v1/completions", completionWindow: "24h", metadata: null, outputExpiresAfterS: null };
  const named = await bench.jobs.submit({ key: { ...bench.key, tenantId: other }, inputFileId: file, ...wanted });
  expect(named).toMatchObject({ ok: false, reason: { code: "not-found", param: "input_file_id" } });
});

test("an upload beyond a tenant's room leaves nothing behind", async () => {
  await using bench = await openJobBench(() => Promise.resolve(succeeded()), { tenantFileBytesMax: 2_000 });
  await bench.upload(lines(5));
  await expect(bench.upload(lines(200))).rejects.toThrow("room for");
  expect(await bench.store.files.bytesOf(bench.key.tenantId)).toBeLessThan(2_000);
});

test("a tenant's files are counted, too", async () => {
  await using bench = await openJobBench(() => Promise.resolve(succeeded()), { tenantFilesMax: 2 });
  await bench.upload(lines(1));
  await bench.upload(lines(1));
  await expect(bench.upload(lines(1))).rejects.toThrow("you have 2 files");
});

test("uploads that come in together share a tenant's room", async () => {
  await using bench = await openJobBench(() => Promise.resolve(succeeded()), { tenantFileBytesMax: 100_000 });
  // Each alone fits; all but one begin when nothing is kept yet.
  const settled = await Promise.allSettled(Array.from({ length: 6 }, () => bench.upload(lines(500))));
  expect(settled.filter(({ status }) => status === "fulfilled").length).toBeLessThan(3);
  expect(await bench.store.files.bytesOf(bench.key.tenantId)).toBeLessThanOrEqual(100_000);
});
