/**
 * A grid whose nodes are too small for the model: `fallow up --no-agent` and `fallow join --max-vram` as real processes on one machine, each with
 * a home and one engine thread. All keep models' files in one folder, so a stage's bytes are on every node's disk as soon as they are on one.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { type ChainList, chainListSchema } from "../../src/coordinator/admin/chain-schema.ts";
import type { WireFormat } from "../../src/domain/chain.ts";
import { CHAIN_MODEL, type ChainModelShape, vramOfStage, writeChainModel } from "./chain-model.ts";
import { type ReadStream, readStreams, type StreamBody } from "./chain-streams.ts";
import { CHAINS_PATH, type ChainPlace, type ServingChain, servingChain, stageAt } from "./chain-view.ts";
import { type AgentProcess, type Grid, makeHome, removeHome, startAgent, startGrid } from "./grid.ts";

export const CHAIN_MODEL_ID = "random";
/** Loads, self-tests and links of five stages on two busy cores. */
const SERVING_MS_MAX = 180_000;
const LOOK_MS = 50;

export interface ChainGridOptions {
  /** 1: no limit, the model is whole. */
  readonly stages: number;
  /** Asked of a node that holds the whole model, before the others come: seeds mean something else on each grid. */
  readonly askWhole?: readonly StreamBody[];
  /** More nodes than stages stand by. */
  readonly nodes?: number;
  readonly sequences?: number;
  readonly wire?: WireFormat;
  readonly spares?: number;
  readonly shape?: ChainModelShape;
  /** Made here when it is not given. */
  readonly modelPath?: string;
  readonly args?: readonly string[];
  readonly agentArgs?: readonly string[];
  readonly agentEnv?: Readonly<Record<string, string>>;
  /** Each node keeps its files in a folder of its own. */
  readonly hasOwnWeights?: boolean;
}

export class ChainGrid implements AsyncDisposable {
  readonly grid: Grid;
  readonly folder: string;
  readonly #options: ChainGridOptions;
  readonly #agents = new Map<string, AgentProcess>();
  readonly #homes = new Map<string, string>();
  #whole: readonly ReadStream[] = [];

  private constructor(parts: { grid: Grid; folder: string; options: ChainGridOptions }) {
    this.grid = parts.grid;
    this.folder = parts.folder;
    this.#options = parts.options;
  }

  /** Resolves when the model is served over just so many stages. */
  static async start(options: ChainGridOptions): Promise<ChainGrid> {
    const { stages, nodes = stages, wire = "f32", spares = 0, shape = CHAIN_MODEL } = options;
    const folder = await mkdtemp(join(tmpdir(), "fallow-chain-"));
    const path = options.modelPath ?? join(folder, "random.gguf");
    if (options.modelPath === undefined) await writeChainModel(path, shape);
    const ofChains = stages === 1 ? [] : ["--stage-wire", wire, "--chain-spares", String(spares)];
    const grid = await startGrid({ args: ["--no-agent", "--warm", "0", ...ofChains, ...(options.args ?? [])] });
    const chains = new ChainGrid({ grid, folder, options });
    try {
      const want = (warmReplicas: number) =>
        chains.post("/admin/v1/models", { path, id: CHAIN_MODEL_ID, warmReplicas });
      await want(1);
      if (options.askWhole !== undefined) chains.#whole = await chains.#wholeStreams(options.askWhole);
      // Fewer nodes would do with fewer slots: the plan is made when all are there.
      await want(0);
      for (let node = 0; node < nodes; node++) await chains.addAgent();
      await want(1);
      await chains.serving();
      return chains;
    } catch (thrown) {
      await chains.stop();
      throw thrown;
    }
  }

  /** What `askWhole` was answered. */
  get whole(): readonly ReadStream[] {
    return this.#whole;
  }

  get agents(): readonly AgentProcess[] {
    return [...this.#agents.values()];
  }

  agent(nodeId: string): AgentProcess {
    const agent = this.#agents.get(nodeId);
    if (agent === undefined) throw new Error(`${nodeId} is no agent of this grid`);
    return agent;
  }

  /** With the home of an agent that is gone, it is the same node again. */
  async addAgent(home = makeHome()): Promise<AgentProcess> {
    const { stages, sequences = 16, shape = CHAIN_MODEL, hasOwnWeights = false, agentArgs = [] } = this.#options;
    const limit = stages === 1 ? [] : ["--max-vram", vramOfStage({ stages, sequences }, shape)];
    const shared = hasOwnWeights ? [] : ["--weights-folder", join(this.folder, "weights")];
    const args = ["--threads", "1", "--no-lan", ...limit, ...shared, ...agentArgs];
    const isBack = [...this.#homes.values()].includes(home);
    const code = isBack ? null : await this.joinCode();
    const agent = await startAgent(code, { args, home, until: "online", env: this.#options.agentEnv ?? {} });
    this.#agents.set(agent.nodeId, agent);
    this.#homes.set(agent.nodeId, home);
    return agent;
  }

  async chains(): Promise<ChainList["chains"]> {
    return (await this.json(CHAINS_PATH, chainListSchema)).chains;
  }

  /** The chain as soon as it serves, in another epoch than `after` where that is given. */
  async serving(after?: ServingChain): Promise<ServingChain | null> {
    const { stages } = this.#options;
    const endMs = performance.now() + SERVING_MS_MAX;
    for (; performance.now() < endMs; await new Promise((resolve) => setTimeout(resolve, LOOK_MS))) {
      if (stages === 1) {
        if (await this.#isWholeReady()) return null;
        continue;
      }
      const want = { modelId: CHAIN_MODEL_ID, stages, ...(after === undefined ? {} : { after }) };
      const chain = servingChain(await this.chains(), want);
      if (chain !== null) return chain;
    }
    const what = stages === 1 ? await this.text("/admin/v1/replicas") : await this.text(CHAINS_PATH);
    throw new Error(`${stages} stages do not serve: ${what.slice(0, 2_000)}\n${this.grid.log().slice(-2_000)}`);
  }

  /** Of a chain that serves. */
  async chain(): Promise<ServingChain> {
    const chain = await this.serving();
    if (chain === null) throw new Error("a whole model is no chain");
    return chain;
  }

  /** To the node of a stage, its engines and all else that it started. */
  async strike(place: ChainPlace, signal: NodeJS.Signals): Promise<{ agent: AgentProcess; chain: ServingChain }> {
    const chain = await this.chain();
    const agent = this.agent(stageAt(chain, place).nodeId);
    agent.killGroup(signal);
    return { agent, chain };
  }

  /** After SIGKILL: its process is taken away, its home is given back for another start. */
  async bury(agent: AgentProcess): Promise<string> {
    agent.killGroup("SIGKILL");
    await agent.stop();
    this.#agents.delete(agent.nodeId);
    return agent.home;
  }

  streams(
    bodies: readonly StreamBody[],
    onTokens?: (stream: number, count: number) => void,
  ): Promise<readonly ReadStream[]> {
    return readStreams(this.grid, bodies, onTokens);
  }

  async json<T>(path: string, schema: z.ZodType<T>): Promise<T> {
    return schema.parse(JSON.parse(await this.text(path)));
  }

  async text(path: string): Promise<string> {
    const answer = await fetch(`${this.grid.baseUrl}${path}`, { headers: this.#headers() });
    if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
    return answer.text();
  }

  async post(path: string, body: unknown): Promise<unknown> {
    const headers = { ...this.#headers(), "content-type": "application/json" };
    const answer = await fetch(`${this.grid.baseUrl}${path}`, { method: "POST", headers, body: JSON.stringify(body) });
    if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
    return answer.json();
  }

  async joinCode(): Promise<string> {
    return z.object({ joinCode: z.string() }).parse(await this.post("/admin/v1/join-codes", { usesMax: 1 })).joinCode;
  }

  async stop(): Promise<void> {
    for (const agent of this.agents) agent.killGroup("SIGCONT");
    await Promise.all(this.agents.map((agent) => agent.stop()));
    await this.grid.stop();
    for (const home of this.#homes.values()) removeHome(home);
    await rm(this.folder, { recursive: true, force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  #headers(): Record<string, string> {
    return { authorization: `Bearer ${this.grid.apiKey}` };
  }

  async #wholeStreams(bodies: readonly StreamBody[]): Promise<readonly ReadStream[]> {
    const agent = await startAgent(await this.joinCode(), { args: ["--threads", "1", "--no-lan"], until: "serving" });
    try {
      const streams = await this.streams(bodies);
      for (const { error } of streams) if (error !== null) throw new Error(`the whole model does not answer: ${error}`);
      return streams;
    } finally {
      await agent.stop();
    }
  }

  async #isWholeReady(): Promise<boolean> {
    const schema = z.object({ replicas: z.array(z.object({ modelId: z.string().nullable(), state: z.string() })) });
    const { replicas } = await this.json("/admin/v1/replicas", schema);
    return replicas.some(({ modelId, state }) => modelId === CHAIN_MODEL_ID && state === "ready");
  }
}
