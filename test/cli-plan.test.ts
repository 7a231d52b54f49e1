/** `fallow plan` and `fallow sim serve` as a newcomer meets them: the shipped example, good and bad files, exit codes. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readRequestTrace } from "../src/sim/traces/request-trace.ts";
import { parseClusterFile } from "../src/wire/cluster-file.ts";
import { MAIN, runFallow } from "./support/grid.ts";

const pathOf = (path: string) => fileURLToPath(new URL(`../${path}`, import.meta.url));
const CLUSTER = pathOf("examples/three-homes.json");
const TRACE = pathOf("examples/trace.csv");

describe("what the documentation and the examples show", () => {
  test("is a cluster file without a warning", () => {
    const [, block] = /```json\n(.*?)```/s.exec(readFileSync(pathOf("docs/cluster-format.md"), "utf8")) ?? [];
    for (const text of [block ?? "", readFileSync(CLUSTER, "utf8")]) {
      expect(parseClusterFile(text, { name: "x" })).toMatchObject({ ok: true, value: { warnings: [] } });
    }
  });

  test("is a trace of requests that is read", () => {
    const trace = readRequestTrace(readFileSync(TRACE, "utf8"));
    expect(trace.ok && trace.value.requests.length).toBe(400);
  });
});

describe("planning and serving from files", () => {
  let folder: string;
  const file = (name: string) => join(folder, name);
  const written = (name: string, content: string | Uint8Array) => {
    writeFileSync(file(name), content);
    return file(name);
  };
  const plan = (...args: string[]) => runFallow(["plan", "--cluster", CLUSTER, ...args]);
  const serve = (...args: string[]) =>
    runFallow([
      "sim",
      "serve",
      "--cluster",
      CLUSTER,
      "--trace",
      TRACE,
      "--warmup-s",
      "10",
      "--duration-s",
      "60",
      ...args,
    ]);
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "fallow-plan-"));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  test("what plan prints has the layout, flow, bound, gap and explanation, and is what serve takes", async () => {
    const made = await plan("--json", "--seed", "3");
    expect(made).toMatchObject({ code: 0, stderr: "" });
    expect(made.json).toMatchObject({
      format: "fallow-layout",
      cluster: "three homes",
      layers: 48,
      seed: 3,
      objective: "throughput",
      flow: { tokensPerSecond: expect.any(Number) },
      upperBound: expect.any(Number),
      gap: expect.any(Number),
      explanation: { refusals: {}, idleNodes: expect.any(Array), losers: expect.any(Array) },
    });
    const served = await serve("--json", "--layout", written("layout.json", made.stdout), "--seed", "1");
    expect(served).toMatchObject({ code: 0, stderr: "" });
    expect(served.json).toMatchObject({
      decodeTokensPerSecond: expect.any(Number),
      promptLatencyS: { p50: expect.any(Number), p95: expect.any(Number) },
      decodeLatencyS: { p50: expect.any(Number), p95: expect.any(Number) },
      flow: (made.json as { flow: { tokensPerSecond: number } }).flow.tokensPerSecond,
      bottlenecks: expect.any(Array),
      layout: { nodes: (made.json as { nodes: unknown }).nodes },
    });
  });

  test("one seed gives one plan and one run", async () => {
    const runs = await Promise.all([
      plan("--json"),
      plan("--json"),
      serve("--json", "--layout", "ours"),
      serve("--json", "--layout", "ours"),
    ]);
    const withoutTime = runs.map(({ stdout }) => stdout.replace(/"cpuSeconds":[\d.]+/, ""));
    expect(withoutTime[0]).toBe(withoutTime[1]);
    expect(withoutTime[2]).toBe(withoutTime[3]);
  });

  test.each(["petals", "swarm", "separate", "parallax"])("the layout of %s serves the example", async (layout) => {
    const { code, json } = await serve("--json", "--layout", layout, "--duration-s", "300");
    expect(code).toBe(0);
    expect((json as { decodeTokensPerSecond: number }).decodeTokensPerSecond).toBeGreaterThan(1);
  });

  test("limits keep nodes out and say so; a limit that nobody meets is refused", async () => {
    const { json } = await plan("--json", "--regions", "ben,cyd", "--min-trust", "0.85");
    expect(json).toBeUndefined();
    const strict = await plan("--regions", "ben");
    expect(strict).toMatchObject({ code: 4, stdout: "" });
    expect(strict.stderr).toMatch(
      /there is no plan: the model has 48 layers .* at most 32 \(not usable: 4 by region\)/,
    );
    expect(strict.stderr).toContain("ada-4090: is in ada; allowed: ben");
    const loose = await plan("--json", "--max-price", "0.02", "--min-trust", "0.5");
    expect(loose.code).toBe(4);
  });

  test("a report is written whole, or not at all", async () => {
    const made = await plan("--html", file("plan.html"));
    expect(made.code).toBe(0);
    expect(readFileSync(file("plan.html"), "utf8")).toMatch(/^<!doctype html>(.|\n)*<\/html>\n$/);
    mkdirSync(file("taken"));
    const refused = await plan("--html", file("taken"));
    expect(refused).toMatchObject({ code: 2, stdout: "" });
    expect(refused.stderr).toContain("it is a folder");
    const nowhere = await plan("--html", file("no/such/plan.html"));
    expect(nowhere.stderr).toContain("its folder does not exist");
    expect(readdirSync(folder).filter((name) => name.endsWith(".part"))).toEqual([]);
  });

  test.each([
    ["is missing", () => file("nope.json"), /nope\.json cannot be read: there is no such file/],
    ["is a folder", () => folder, /is a folder, and a cluster file is wanted/],
    ["is binary", () => written("binary", Uint8Array.of(0xff, 0xfe, 0, 1)), /is no cluster file: it is not UTF-8 text/],
    ["is empty", () => written("empty.json", ""), /empty\.json: the cluster file is no JSON/],
    [
      "is cut gzip",
      () => written("cut.gz", gzipSync(readFileSync(CLUSTER)).subarray(0, 900)),
      /its gzip data is damaged or cut/,
    ],
    [
      "unpacks to far too much",
      () => written("bomb.gz", gzipSync(new Uint8Array(70 * 2 ** 20))),
      /is too long: a cluster file has at most 64\.0 MiB/,
    ],
    [
      "has an unknown field",
      () => written("field.json", '{"speed": 3}'),
      /field\.json: the cluster file has 9 problems:\n(.|\n)*speed: is 3; is no field of a cluster file/,
    ],
    ["has NaN", () => written("nan.json", '{"numLayers": NaN}'), /JSON has no NaN/],
  ])("a cluster file that %s is refused with code 2 and a fix", async (_what, make, message) => {
    const { code, stdout, stderr } = await runFallow(["plan", "--cluster", make()]);
    expect(stderr).toMatch(message);
    expect(stderr).toMatch(/\n {3}fix: /);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
  });

  test("gzip is taken for every file", async () => {
    const packed = written("c.json.gz", gzipSync(readFileSync(CLUSTER)));
    const trace = written("t.csv.gz", gzipSync(readFileSync(TRACE)));
    const { code, json } = await runFallow([
      "sim",
      "serve",
      "--cluster",
      packed,
      "--trace",
      trace,
      "--layout",
      "parallax",
      "--duration-s",
      "60",
      "--json",
    ]);
    expect({ code, json }).toMatchObject({ code: 0, json: { cluster: "three homes", trace: "t" } });
  });

  test.each([
    ["helix without the solver's layout", ["--layout", "helix"], 2, /the cluster file has no layouts\.ilp/],
    ["a layout of another model", ["--layout", pathOf("package.json")], 2, /package\.json: the layout file has/],
    ["a mode that is none", ["--layout", "ours", "--mode", "fast"], 2, /Allowed choices are offline, online/],
    ["a window of no time", ["--layout", "ours", "--duration-s", "0"], 2, /It must be a number from 1 to 86400/],
    ["a seed below 0", ["--layout", "ours", "--seed", "-1"], 2, /It must be a whole number from 0/],
  ])("serving is refused for %s", async (_what, args, code, message) => {
    const refused = await serve(...args);
    expect(refused.stderr).toMatch(message);
    expect(refused).toMatchObject({ code, stdout: "" });
  });

  test("a trace that is broken is refused with its line", async () => {
    const trace = written("bad.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\n2026-01-05 09:00:01,5,x\n");
    const { code, stderr } = await runFallow([
      "sim",
      "serve",
      "--cluster",
      CLUSTER,
      "--trace",
      trace,
      "--layout",
      "ours",
      "--json",
    ]);
    expect(code).toBe(2);
    expect(JSON.parse(stderr)).toMatchObject({
      event: "error",
      code: "trace-invalid",
      message: expect.stringContaining("line 2.GeneratedTokens"),
    });
  });

  test("a cluster whose parts are not joined is read with a warning, and the planner says that there is no way", async () => {
    const value = JSON.parse(readFileSync(CLUSTER, "utf8"));
    value.links = value.links.filter(([from, to]: string[]) => from === "source" || to === "sink");
    const { code, stderr } = await runFallow(["plan", "--cluster", written("apart.json", JSON.stringify(value))]);
    expect(code).toBe(4);
    expect(stderr).toMatch(/the nodes form 5 groups with no link between them/);
    expect(stderr).toMatch(/there is no plan: no chain of nodes leads from layer 0 to layer 47/);
  });

  test.skipIf(process.platform !== "linux")("Ctrl-C ends a long run at once and leaves no half report", async () => {
    const args = [
      "sim",
      "serve",
      "--cluster",
      CLUSTER,
      "--trace",
      TRACE,
      "--layout",
      "ours",
      "--duration-s",
      "80000",
      "--html",
      file("late.html"),
    ];
    const child = spawn(process.execPath, [MAIN, ...args], {
      stdio: ["ignore", "ignore", "pipe"],
      env: { ...process.env, FALLOW_HOME: folder },
    });
    // The first thing it says comes from reading the files; from there on it computes.
    await new Promise((resolve) => setImmediate(resolve));
    await waitUntilBusy(child.pid ?? 0);
    child.kill("SIGINT");
    const [code, signal] = await once(child, "exit");
    expect([code, signal]).toEqual([null, "SIGINT"]); // 130 to a shell
    expect(existsSync(file("late.html"))).toBe(false);
  });
});

/** Half a second of CPU: past loading its modules, in the midst of the run. */
const BUSY_TICKS = 50;

async function waitUntilBusy(pid: number): Promise<void> {
  for (;;) {
    const [utime = "0"] = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ").slice(11) ?? [];
    if (Number(utime) >= BUSY_TICKS) return;
    await new Promise((resolve) => setImmediate(resolve));
  }
}
