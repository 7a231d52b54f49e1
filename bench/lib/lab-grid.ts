/**
 * A grid of the product's own processes in a lab: `fallow up --no-agent` in one host, `fallow join` in others, each with a home of its
 * own. Its operator speaks HTTP from within the coordinator's host, since no route leads into a lab.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { compileCacheFolder } from "../../src/cli/compile-cache.ts";
import type { LabHost } from "../../test/netlab/lab-host.ts";

const MAIN = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));
const OPERATOR = fileURLToPath(new URL("./lab-operator-process.ts", import.meta.url));
/** Every start of a process measures the machine, loads code and, on busy cores, waits for its turn. */
const STEP_MS_MAX = 120_000;
const MEMORY_MAX = "600MiB";
const STOP_MS_MAX = 8_000;
/** Of an agent's or coordinator's stderr, for the message of an error. */
const LOG_CHARS = 40_000;

const readySchema = z.object({
  event: z.literal("ready"),
  baseUrl: z.string(),
  apiKey: z.string(),
  joinCode: z.string(),
});
const eventSchema = z.looseObject({ event: z.string() });
export type JoinEvent = Readonly<z.infer<typeof eventSchema> & { atMs: number }>;

const answerSchema = z.object({
  id: z.number(),
  status: z.number(),
  body: z.string(),
  /** Until the first line of an event stream that carries text. */
  firstTokenMs: z.number().nullable(),
  totalMs: z.number(),
});
export type OperatorAnswer = Readonly<z.infer<typeof answerSchema>>;

export interface LabAgent {
  readonly host: LabHost;
  readonly home: string;
  readonly nodeId: string;
  readonly pid: number;
  readonly events: readonly JoinEvent[];
  /** The last part of what it wrote to stderr. */
  log(): string;
  /** The first event, from `from` on, that fits; rejects when the agent ends before or nothing comes. */
  event(
    fits: (event: JoinEvent) => boolean,
    options?: { readonly from?: number; readonly limitMs?: number },
  ): Promise<JoinEvent>;
  stop(): Promise<void>;
}

export class LabGrid {
  readonly folder: string;
  readonly #coordinator: FallowProcess;
  readonly #operator: ChildProcess;
  readonly #ready: z.infer<typeof readySchema>;
  readonly #asked = new Map<number, (answer: OperatorAnswer) => void>();
  readonly #agents: LabAgent[] = [];
  #nextId = 0;

  private constructor(parts: {
    folder: string;
    coordinator: FallowProcess;
    operator: ChildProcess;
    ready: z.infer<typeof readySchema>;
  }) {
    this.folder = parts.folder;
    this.#coordinator = parts.coordinator;
    this.#operator = parts.operator;
    this.#ready = parts.ready;
    if (parts.operator.stdout === null) throw new Error("the operator's output is a pipe");
    createInterface({ input: parts.operator.stdout }).on("line", (line) => {
      const answer = answerSchema.parse(JSON.parse(line));
      this.#asked.get(answer.id)?.(answer);
      this.#asked.delete(answer.id);
    });
  }

  static async start(host: LabHost, args: readonly string[] = []): Promise<LabGrid> {
    const folder = await mkdtemp(join(tmpdir(), "fallow-lab-grid-"));
    const home = join(folder, "grid");
    const coordinator = new FallowProcess(host, [
      ...["up", "--json", "--no-agent", "--warm", "0", "--host", host.address, "--home", home],
      ...args,
    ]);
    const ready = readySchema.parse(await coordinator.event(({ event }) => event === "ready"));
    const operator = host.spawn(process.execPath, [OPERATOR], { stdio: ["pipe", "pipe", "inherit"] });
    return new LabGrid({ folder, coordinator, operator, ready });
  }

  get coordinatorPid(): number {
    return this.#coordinator.pid;
  }

  /** The last part of what the coordinator wrote to stderr. */
  log(): string {
    return this.#coordinator.log;
  }

  /** For an OpenAI client in a host of the lab: ends in `/v1`. */
  get apiUrl(): string {
    return `${this.#ready.baseUrl}/v1`;
  }

  get apiKey(): string {
    return this.#ready.apiKey;
  }

  /** Starts an agent, and resolves when it is online. */
  async join(host: LabHost, args: readonly string[] = []): Promise<LabAgent> {
    const home = join(this.folder, `agent-${host.name}`);
    const running = new FallowProcess(host, [
      ...["join", this.#ready.joinCode, "--json", "--home", home, "--name", host.name, "--threads", "1"],
      // Room for keys and values is taken for all sequences that fit: five engines would fill this machine.
      ...["--engine", "cpu", "--max-memory", MEMORY_MAX, ...args],
    ]);
    const online = await running.event(({ event }) => event === "online");
    const agent: LabAgent = {
      host,
      home,
      nodeId: z.object({ nodeId: z.string() }).parse(online).nodeId,
      pid: running.pid,
      events: running.events,
      log: () => running.log,
      event: (fits, options) => running.event(fits, options),
      stop: () => running.stop(),
    };
    this.#agents.push(agent);
    return agent;
  }

  /** A request of the operator, from the coordinator's own host. */
  ask(path: string, options: { readonly body?: unknown; readonly method?: string } = {}): Promise<OperatorAnswer> {
    const id = ++this.#nextId;
    const answered = new Promise<OperatorAnswer>((resolve) => this.#asked.set(id, resolve));
    const { baseUrl, apiKey } = this.#ready;
    const method = options.method ?? (options.body === undefined ? "GET" : "POST");
    const body = options.body === undefined ? null : JSON.stringify(options.body);
    this.#operator.stdin?.write(`${JSON.stringify({ id, url: `${baseUrl}${path}`, method, apiKey, body })}\n`);
    return answered;
  }

  async json<T>(path: string, schema: z.ZodType<T>, options: { readonly body?: unknown } = {}): Promise<T> {
    const { status, body } = await this.ask(path, options);
    if (status >= 300) throw new Error(`${path} was answered with ${status}: ${body.slice(0, 500)}`);
    return schema.parse(JSON.parse(body));
  }

  /** The sum of a metric's samples that carry the label. */
  async metric(name: string, label = ""): Promise<number> {
    const { body } = await this.ask("/metrics");
    const lines = body.split("\n").filter((line) => line.startsWith(name) && line.includes(label));
    return lines.reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
  }

  async stop(): Promise<void> {
    await Promise.all(this.#agents.map((agent) => agent.stop()));
    this.#operator.kill("SIGKILL");
    await this.#coordinator.stop();
    await rm(this.folder, { recursive: true, force: true });
  }
}

/** A command of ours in a host that prints one JSON value a line. */
class FallowProcess {
  readonly events: JoinEvent[] = [];
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown>;
  readonly #name: string;
  readonly #watchers = new Set<() => void>();
  #log = "";
  #isOver = false;

  constructor(host: LabHost, args: readonly string[]) {
    this.#name = `fallow ${args[0]} in ${host.name}`;
    this.#child = host.spawn(process.execPath, ["--max-semi-space-size=4", MAIN, ...args], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, NODE_COMPILE_CACHE: compileCacheFolder() },
    });
    this.#ended = once(this.#child, "exit").then(() => {
      this.#isOver = true;
      this.#tell();
    });
    if (this.#child.stdout === null) throw new Error("the command's output is a pipe");
    createInterface({ input: this.#child.stdout }).on("line", (line) => {
      this.events.push({ ...eventSchema.parse(JSON.parse(line)), atMs: performance.now() });
      this.#tell();
    });
    this.#child.stderr?.on("data", (data) => {
      this.#log = (this.#log + String(data)).slice(-LOG_CHARS);
    });
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  get log(): string {
    return this.#log;
  }

  event(fits: (event: JoinEvent) => boolean, { from = 0, limitMs = STEP_MS_MAX } = {}): Promise<JoinEvent> {
    return new Promise((resolve, reject) => {
      const done = () => {
        this.#watchers.delete(look);
        clearTimeout(timer);
      };
      const fail = (why: string) => {
        done();
        const last = JSON.stringify(this.events.slice(-3));
        reject(new Error(`${this.#name} ${why}; it said ${last} and logged ${this.#log}`));
      };
      const look = () => {
        const found = this.events.slice(from).find(fits);
        if (found !== undefined) {
          done();
          resolve(found);
        } else if (this.#isOver) fail("ended");
      };
      const timer = setTimeout(() => fail(`did not come to it in ${limitMs} ms`), limitMs);
      this.#watchers.add(look);
      look();
    });
  }

  async stop(): Promise<void> {
    if (this.#isOver) return;
    this.#child.kill("SIGTERM");
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), STOP_MS_MAX);
    await this.#ended;
    clearTimeout(timer);
  }

  #tell(): void {
    for (const look of [...this.#watchers]) look();
  }
}

/** The bytes of a path that a command of the machine counts, such as `sha256sum`: no load on this process's thread. */
export async function sha256Of(path: string): Promise<string> {
  const child = spawn("sha256sum", [path], { stdio: ["ignore", "pipe", "inherit"] });
  let out = "";
  child.stdout.on("data", (data) => {
    out += String(data);
  });
  await once(child, "close");
  return out.slice(0, 64);
}
