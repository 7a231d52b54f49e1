/**
 * A batch over several agents, of which some are killed in its middle, and the coordinator too: whatever is killed comes back, as a service does that
 * its machine starts again. At the end every line has one result and one charge.
 */
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "vitest";
import { openSqliteStore } from "../../src/adapters/store-sql/sql-store.ts";
import { requestId } from "../../src/domain/ids.ts";
import { SeededRandom } from "../../src/sim/time/random.ts";
import { exchange, field, parsed } from "./exchange.ts";
import { type AgentProcess, type Grid, makeHome, removeHome, startAgent, startGrid } from "./grid.ts";
import { makeJoinCode } from "./grid-console.ts";

/** When the next one is killed: after so much time, or so many more lines. */
export type KillPace = { readonly everyMs: number } | { readonly everyLines: number };

export interface BatchDrillOptions {
  readonly lines: number;
  readonly agents: number;
  /** Of each answer. */
  readonly tokens: number;
  readonly seed: number;
  /** Null: nobody is killed. */
  readonly agentKills: KillPace | null;
  readonly coordinatorKills: KillPace | null;
  readonly say?: (line: string) => void;
}

export interface BatchDrillReport {
  /** From the batch's creation until its end was seen. */
  readonly tookMs: number;
  readonly agentsKilled: number;
  readonly coordinatorsKilled: number;
  readonly linesPerSecond: number;
}

const LOOK_MS = 50;
const GRID_ARGS = ["--no-agent", "--no-lan", "--no-udp"];
const AGENT_ARGS = ["--threads", "1", "--no-lan", "--no-udp", "--no-peers"];
const ENDED = new Set(["completed", "failed", "expired", "cancelled"]);

export function batchLine(at: number, tokens: number): string {
  const body = { model: "tiny", prompt: `Line ${at} says`, max_tokens: tokens, ignore_eos: true, seed: at };
  return JSON.stringify({ custom_id: `line-${at}`, method: "POST", url: "/v1/completions", body });
}

export async function uploadLines(
  grid: Pick<Grid, "apiUrl" | "apiKey">,
  lines: number,
  tokens: number,
): Promise<string> {
  const parts: string[] = [];
  for (let at = 0; at < lines; at++) parts.push(batchLine(at, tokens), "\n");
  const form = new FormData();
  form.set("purpose", "batch");
  form.set("file", new Blob(parts), "lines.jsonl");
  const headers = { authorization: `Bearer ${grid.apiKey}` };
  const answer = await fetch(`${grid.apiUrl}/files`, { method: "POST", headers, body: form });
  const text = await answer.text();
  expect(answer.status, text).toBe(200);
  return String(field(parsed(text), "id"));
}

export async function createBatch(grid: Pick<Grid, "apiUrl" | "apiKey">, fileId: string): Promise<string> {
  const body = { input_file_id: fileId, endpoint: "/v1/completions", completion_window: "24h" };
  const made = await exchange({ url: `${grid.apiUrl}/batches`, key: grid.apiKey, body });
  expect(made.status, made.body).toBe(200);
  return String(field(parsed(made.body), "id"));
}

export async function drillBatch(options: BatchDrillOptions): Promise<BatchDrillReport> {
  await using fleet = new Fleet(options);
  await fleet.start();
  const fileId = await uploadLines(fleet.grid, options.lines, options.tokens);
  const startedMs = performance.now();
  const id = await createBatch(fleet.grid, fileId);
  const batch = await fleet.untilEnded(id);
  const tookMs = performance.now() - startedMs;
  expect(field(batch, "status")).toBe("completed");
  const counts = { total: options.lines, completed: options.lines, failed: 0 };
  expect(field(batch, "request_counts")).toEqual(counts);
  const requests = await checkOutput(fleet.grid, String(field(batch, "output_file_id")), options.lines);
  await fleet.stop();
  await checkCharges(fleet.home, requests);
  const { agentsKilled, coordinatorsKilled } = fleet;
  return { tookMs, agentsKilled, coordinatorsKilled, linesPerSecond: (options.lines * 1_000) / tookMs };
}

class Fleet implements AsyncDisposable {
  readonly home = makeHome();
  agentsKilled = 0;
  coordinatorsKilled = 0;
  readonly #options: BatchDrillOptions;
  readonly #random: SeededRandom;
  readonly #agentHomes: string[] = [];
  readonly #agents: (AgentProcess | null)[] = [];
  readonly #returning = new Set<Promise<void>>();
  #grid: Grid | null = null;

  constructor(options: BatchDrillOptions) {
    this.#options = options;
    this.#random = new SeededRandom(`batch-drill/${options.seed}`);
  }

  get grid(): Grid {
    if (this.#grid === null) throw new Error("the grid runs");
    return this.#grid;
  }

  async start(): Promise<void> {
    const { agents } = this.#options;
    this.#grid = await startGrid({ home: this.home, args: [...GRID_ARGS, "--warm", String(agents)] });
    const code = await makeJoinCode(this.#grid, agents);
    for (let at = 0; at < agents; at++) this.#agentHomes.push(mkdtempSync(join(tmpdir(), "fallow-drill-")));
    const started = this.#agentHomes.map((home) => startAgent(code, { home, args: AGENT_ARGS, until: "serving" }));
    this.#agents.push(...(await Promise.all(started)));
  }

  /** Kills on the way, as the options say. */
  async untilEnded(id: string): Promise<unknown> {
    const { agentKills, coordinatorKills, say } = this.#options;
    const agentDue = this.#due(agentKills);
    const coordinatorDue = this.#due(coordinatorKills);
    let told = 0;
    for (;;) {
      const answer = await exchange({ url: `${this.grid.apiUrl}/batches/${id}`, key: this.grid.apiKey });
      const batch = parsed(answer.body);
      if (ENDED.has(String(field(batch, "status")))) return batch;
      const done = Number(field(field(batch, "request_counts"), "completed") ?? 0);
      if (done - told >= this.#options.lines / 20) {
        told = done;
        say?.(`${done} lines, ${this.agentsKilled} agents and ${this.coordinatorsKilled} coordinators killed`);
      }
      if (agentDue(done)) this.#killAgent();
      if (coordinatorDue(done)) await this.#killCoordinator();
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  }

  #due(pace: KillPace | null): (done: number) => boolean {
    if (pace === null) return () => false;
    let last = "everyMs" in pace ? performance.now() : 0;
    return (done) => {
      const now = "everyMs" in pace ? performance.now() : done;
      if (now - last < ("everyMs" in pace ? pace.everyMs : pace.everyLines)) return false;
      last = now;
      return true;
    };
  }

  #killAgent(): void {
    const alive = this.#agents.flatMap((agent, at) => (agent === null ? [] : [at]));
    if (alive.length === 0) return;
    const at = this.#random.pick(alive);
    this.#agents[at]?.killGroup("SIGKILL");
    this.#agents[at] = null;
    this.agentsKilled += 1;
    const home = this.#agentHomes[at];
    if (home === undefined) return;
    const returning = startAgent(null, { home, args: AGENT_ARGS, until: "online" }).then(
      (agent) => {
        this.#agents[at] = agent;
      },
      () => undefined, // stopped with the drill
    );
    this.#returning.add(returning);
    void returning.finally(() => this.#returning.delete(returning));
  }

  async #killCoordinator(): Promise<void> {
    const { grid } = this;
    const port = new URL(grid.baseUrl).port;
    process.kill(grid.pid, "SIGKILL");
    await grid.exited;
    grid.killGroup("SIGKILL");
    this.coordinatorsKilled += 1;
    const { agents } = this.#options;
    this.#grid = await startGrid({ home: this.home, args: [...GRID_ARGS, "--warm", String(agents), "--port", port] });
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#returning]);
    await Promise.all(this.#agents.map((agent) => agent?.stop()));
    this.#agents.length = 0;
    await this.#grid?.stop();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    for (const home of [this.home, ...this.#agentHomes]) removeHome(home);
  }
}

/** Every line once, in order, answered. Resolves with the requests' ids. */
async function checkOutput(grid: Grid, fileId: string, lines: number): Promise<readonly string[]> {
  const headers = { authorization: `Bearer ${grid.apiKey}` };
  const text = await (await fetch(`${grid.apiUrl}/files/${fileId}/content`, { headers })).text();
  const results = text.trimEnd().split("\n");
  expect(results.length).toBe(lines);
  const requests = results.map((line, at) => {
    const result = parsed(line);
    const response = field(result, "response");
    if (field(result, "custom_id") !== `line-${at}` || field(response, "status_code") !== 200) {
      throw new Error(`line ${at} of the output is ${line.slice(0, 300)}`);
    }
    return String(field(response, "request_id"));
  });
  expect(new Set(requests).size).toBe(lines);
  return requests;
}

/** One receipt and one charge for each line, nothing held, and nothing charged beside. */
async function checkCharges(home: string, requests: readonly string[]): Promise<void> {
  const store = await openSqliteStore({ path: join(home, "grid.sqlite"), nowMs: Date.now() });
  try {
    expect(await store.receipts.leafCount()).toBe(requests.length);
    for (const request of requests) {
      if ((await store.receipts.byRequest(requestId(request))) === null) throw new Error(`${request} has no receipt`);
    }
    expect(await store.ledger.openHolds()).toEqual([]);
    const usage = await store.receipts.usage({ fromMs: 0, toMs: Number.MAX_SAFE_INTEGER });
    const receipted = usage.reduce((sum, row) => sum + row.costMicroUsd, 0);
    const transfers = await store.ledger.transfers({ limit: requests.length * 20 });
    const charges = transfers.filter(({ reason }) => reason === "charge");
    expect(charges.reduce((sum, { amountMicroUsd }) => sum + amountMicroUsd, 0)).toBe(receipted);
    expect(new Set(charges.map((charge) => charge.requestId)).size).toBe(charges.length);
  } finally {
    await store.close();
  }
}
