/**
 * A chain in the lab: the coordinator, its clients and each node in hosts of their own on one emulated internet, so that every hop takes the same
 * round trip. Nodes are too small for the model (`--max-vram`), as in test/support/chain-grid.ts.
 */
import type { ChildProcess } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { type ChainList, chainListSchema } from "../../src/coordinator/admin/chain-schema.ts";
import type { WireFormat } from "../../src/domain/chain.ts";
import type { LinkSpec } from "../../test/netlab/link-shape.ts";
import { type Netlab, startNetlab } from "../../test/netlab/netlab.ts";
import { CHAIN_MODEL, type ChainModelShape, vramOfStage, writeChainModel } from "../../test/support/chain-model.ts";
import type { ReadStream, StreamBody } from "../../test/support/chain-streams.ts";
import {
  CHAINS_PATH,
  type ChainPlace,
  type ServingChain,
  servingChain,
  stageAt,
} from "../../test/support/chain-view.ts";
import { signalTree } from "../../test/support/process-tree.ts";
import { type LabAgent, LabGrid } from "./lab-grid.ts";

const CLIENT = fileURLToPath(new URL("./chain-client-process.ts", import.meta.url));
export const LAB_MODEL_ID = "split";
const NAMES = ["ann", "ben", "cem", "dan", "eve", "fay", "gil"] as const;
type Host = "coordinator" | (typeof NAMES)[number];
const SERVING_MS_MAX = 240_000;
const LOOK_MS = 100;
const LARGE_FILE_BYTES = 200e6;
const LIFE_MS = 3_600_000;
/** Of the whole lab: a bench's chains share one, because links are shaped anew while it runs. */
const NODES_MAX = NAMES.length;

export interface LabChainOptions {
  readonly stages: number;
  /** Asked of a node that holds the whole model, before the others come: seeds mean something else on each grid. */
  readonly askWhole?: readonly StreamBody[];
  readonly nodes?: number;
  readonly sequences?: number;
  readonly wire?: WireFormat;
  readonly spares?: number;
  readonly shape?: ChainModelShape;
  /** A file that is there, and the limit under which no node holds it whole; without it a model of random weights of that shape. */
  readonly model?: { readonly path: string; readonly vram: string };
  /** Between any two hosts, without waiting in queues. */
  readonly rttMs: number;
  readonly lossShare?: number;
  readonly args?: readonly string[];
  readonly agentArgs?: readonly string[];
}

const streamSchema = z.object({
  text: z.string(),
  sentMs: z.number(),
  atMs: z.array(z.number()),
  finishReason: z.string().nullable(),
  completionTokens: z.number().nullable(),
  costUsd: z.number().nullable(),
  requestId: z.string().nullable(),
  error: z.string().nullable(),
});
const saidSchema = z.union([
  z.object({ id: z.number(), stream: z.number(), count: z.number() }),
  z.object({ id: z.number(), streams: z.array(streamSchema) }),
]);

interface Asked {
  readonly onTokens: (stream: number, count: number) => void;
  readonly done: (streams: readonly ReadStream[]) => void;
}

export class LabChain implements AsyncDisposable {
  readonly lab: Netlab<Host, never>;
  readonly grid: LabGrid;
  readonly #options: LabChainOptions;
  readonly #client: ChildProcess;
  readonly #asked = new Map<number, Asked>();
  readonly #nodes = new Map<string, LabAgent>();
  #nextId = 0;
  #whole: readonly ReadStream[] = [];

  private constructor(parts: { lab: Netlab<Host, never>; grid: LabGrid; options: LabChainOptions }) {
    this.lab = parts.lab;
    this.grid = parts.grid;
    this.#options = parts.options;
    this.#client = parts.lab
      .host("coordinator")
      .spawn(process.execPath, [CLIENT], { stdio: ["pipe", "pipe", "inherit"] });
    if (this.#client.stdout === null) throw new Error("the client's output is a pipe");
    createInterface({ input: this.#client.stdout }).on("line", (line) => this.#hear(line));
  }

  /** Resolves when the model is served over just so many stages; 1: whole, on a node without a limit. */
  static async start(options: LabChainOptions): Promise<LabChain> {
    const { stages, nodes = stages, wire = "f32", spares = 0, shape = CHAIN_MODEL } = options;
    if (nodes > NODES_MAX) throw new Error(`a lab has ${NODES_MAX} nodes at most`);
    const link = linkOf(options);
    const names = NAMES.slice(0, nodes);
    const all: readonly Host[] = ["coordinator", ...NAMES];
    const lab = await startNetlab<Host>({
      hosts: { coordinator: {}, ann: {}, ben: {}, cem: {}, dan: {}, eve: {}, fay: {}, gil: {} },
      links: Object.fromEntries(all.map((name) => [name, link])),
      lifeMs: LIFE_MS,
    });
    try {
      const ofChains = stages === 1 ? [] : ["--stage-wire", wire, "--chain-spares", String(spares)];
      const grid = await LabGrid.start(lab.host("coordinator"), [...ofChains, ...(options.args ?? [])]);
      const chain = new LabChain({ lab, grid, options });
      try {
        const path = options.model?.path ?? join(grid.folder, "random.gguf");
        if (options.model === undefined) await writeChainModel(path, shape);
        const want = (warmReplicas: number) =>
          grid.json("/admin/v1/models", z.unknown(), { body: { path, id: LAB_MODEL_ID, warmReplicas } });
        await want(1);
        if (options.askWhole !== undefined) chain.#whole = await chain.#wholeStreams(options.askWhole);
        // Fewer nodes would do with fewer slots: the plan is made when all are there.
        await want(0);
        for (const name of names) await chain.addNode(name);
        await want(1);
        await chain.serving();
        return chain;
      } catch (thrown) {
        await chain.stop();
        throw thrown;
      }
    } catch (thrown) {
      await lab.stop();
      throw thrown;
    }
  }

  /** Its home stays in the lab's folder: started again it is the same node, with what it had on disk. */
  async addNode(name: (typeof NAMES)[number]): Promise<LabAgent> {
    const { stages, sequences = 16, shape = CHAIN_MODEL, agentArgs = [], model } = this.#options;
    const vram = model?.vram ?? vramOfStage({ stages, sequences }, shape);
    const limit = stages === 1 ? wholeLimit(shape) : ["--max-vram", vram];
    const agent = await this.grid.join(this.lab.host(name), ["--no-lan", ...limit, ...agentArgs]);
    this.#nodes.set(agent.nodeId, agent);
    return agent;
  }

  /** What `askWhole` was answered. */
  get whole(): readonly ReadStream[] {
    return this.#whole;
  }

  node(nodeId: string): LabAgent {
    const agent = this.#nodes.get(nodeId);
    if (agent === undefined) throw new Error(`${nodeId} is no node of this lab`);
    return agent;
  }

  get nodes(): readonly LabAgent[] {
    return [...this.#nodes.values()];
  }

  /** Names of hosts that a node may be started in. */
  hostOf(agent: LabAgent): (typeof NAMES)[number] {
    const name = NAMES.find((one) => one === agent.host.name);
    if (name === undefined) throw new Error(`${agent.host.name} is no host of this lab`);
    return name;
  }

  /** Every way from now on; the loss is each way's own. */
  async shape(way: { readonly rttMs: number; readonly lossShare?: number }): Promise<void> {
    for (const name of ["coordinator", ...NAMES] as const) await this.lab.link(name).set(linkOf(way));
  }

  async list(): Promise<ChainList> {
    return this.grid.json(CHAINS_PATH, chainListSchema);
  }

  async chains(): Promise<ChainList["chains"]> {
    return (await this.list()).chains;
  }

  async serving(after?: ServingChain): Promise<ServingChain | null> {
    const { stages } = this.#options;
    for (const startMs = performance.now(); performance.now() - startMs < SERVING_MS_MAX; await sleep(LOOK_MS)) {
      if (stages === 1) {
        if (await this.#isWholeReady()) return null;
        continue;
      }
      const want = { modelId: LAB_MODEL_ID, stages, ...(after === undefined ? {} : { after }) };
      const chain = servingChain(await this.chains(), want);
      if (chain !== null) return chain;
    }
    const { body } = await this.grid.ask(stages === 1 ? "/admin/v1/replicas" : CHAINS_PATH);
    throw new Error(`${stages} stages do not serve: ${body.slice(0, 2_000)}`);
  }

  async chain(): Promise<ServingChain> {
    const chain = await this.serving();
    if (chain === null) throw new Error("a whole model is no chain");
    return chain;
  }

  async stageNode(place: ChainPlace): Promise<{ readonly agent: LabAgent; readonly chain: ServingChain }> {
    const chain = await this.chain();
    return { agent: this.node(stageAt(chain, place).nodeId), chain };
  }

  /** The program and all that it started. */
  signal(agent: LabAgent, signal: NodeJS.Signals): void {
    signalTree(agent.pid, signal);
  }

  /** From now on no packet reaches it or leaves it. */
  async cut(agent: LabAgent): Promise<void> {
    await this.lab.link(this.hostOf(agent)).cut();
  }

  async restore(agent: LabAgent): Promise<void> {
    await this.lab.link(this.hostOf(agent)).restore();
  }

  /** Of a node that was killed: the same node again, with what it had on its disk. */
  async revive(agent: LabAgent): Promise<LabAgent> {
    signalTree(agent.pid, "SIGKILL");
    await agent.stop();
    this.#nodes.delete(agent.nodeId);
    return this.addNode(this.hostOf(agent));
  }

  /** From the coordinator's host. `onTokens` is called each time that a stream has `tellEvery` tokens more. */
  streams(
    bodies: readonly StreamBody[],
    { onTokens = () => undefined, tellEvery = 8 }: { onTokens?: Asked["onTokens"]; tellEvery?: number } = {},
  ): Promise<readonly ReadStream[]> {
    const id = ++this.#nextId;
    const { apiUrl, apiKey } = this.grid;
    const answered = Promise.withResolvers<readonly ReadStream[]>();
    const onExit = () => answered.reject(new Error("the client's process ended"));
    this.#client.once("exit", onExit);
    const done = (streams: readonly ReadStream[]) => {
      this.#client.off("exit", onExit);
      answered.resolve(streams);
    };
    this.#asked.set(id, { onTokens, done });
    this.#client.stdin?.write(`${JSON.stringify({ id, apiUrl, apiKey, tellEvery, bodies })}\n`);
    return answered.promise;
  }

  async stop(): Promise<void> {
    this.#client.kill("SIGKILL");
    for (const agent of this.nodes) signalTree(agent.pid, "SIGCONT");
    await this.grid.stop();
    await this.lab.stop();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  #hear(line: string): void {
    const said = saidSchema.parse(JSON.parse(line));
    const asked = this.#asked.get(said.id);
    if ("count" in said) asked?.onTokens(said.stream, said.count);
    else {
      this.#asked.delete(said.id);
      asked?.done(said.streams);
    }
  }

  async #wholeStreams(bodies: readonly StreamBody[]): Promise<readonly ReadStream[]> {
    const [name] = NAMES;
    // Of its own: the node that has this host afterwards is another one.
    const home = join(this.grid.folder, "agent-whole");
    const agent = await this.grid.join(this.lab.host(name), ["--no-lan", "--home", home]);
    await agent.event(({ event }) => event === "serving");
    const streams = await this.streams(bodies);
    await agent.stop();
    for (const { error } of streams) if (error !== null) throw new Error(`the whole model does not answer: ${error}`);
    return streams;
  }

  async #isWholeReady(): Promise<boolean> {
    const schema = z.object({ replicas: z.array(z.object({ modelId: z.string().nullable(), state: z.string() })) });
    const { replicas } = await this.grid.json("/admin/v1/replicas", schema);
    return replicas.some(({ modelId, state }) => modelId === LAB_MODEL_ID && state === "ready");
  }
}

/** What a node of the lab lends anyway is too little for a large model. */
function wholeLimit({ fileBytes }: ChainModelShape): readonly string[] {
  return fileBytes < LARGE_FILE_BYTES ? [] : ["--max-vram", `${2 * fileBytes}B`];
}

/** A way has two links, and a round trip crosses both twice. */
function linkOf({ rttMs, lossShare = 0 }: { readonly rttMs: number; readonly lossShare?: number }): LinkSpec {
  return { delayMs: rttMs / 4, lossShare: lossShare / 2 };
}
