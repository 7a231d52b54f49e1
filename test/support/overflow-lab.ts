/** Two real grids: one that people ask, with agents that can be killed, and one that it may overflow to, behind a proxy that counts. */
import OpenAI from "openai";
import { type CountingProxy, startCountingProxy } from "./counting-proxy.ts";
import { type AgentProcess, type Grid, startAgent, startGrid } from "./grid.ts";

const KEY_VARIABLE = "OVERFLOW_LAB_KEY";
/** The lab's provider and the dearer prices that tell its tokens from the grid's. */
export const PROVIDER = "acme";
export const CLOUD_PRICE = { inputMicroUsdPerMtok: 3_000_000, outputMicroUsdPerMtok: 5_000_000 };

export interface OverflowLab {
  readonly grid: Grid;
  readonly upstream: Grid;
  readonly proxy: CountingProxy;
  readonly client: OpenAI;
  readonly agents: AgentProcess[];
  addAgent(): Promise<void>;
  killAgents(): Promise<void>;
  /** With the grid's own key; `text` of an answer that is none of 200. */
  json(path: string, body?: unknown, method?: string): Promise<unknown>;
  close(): Promise<void>;
}

export async function openOverflowLab({ agentsAtStart = 0 }: { agentsAtStart?: 0 | 1 } = {}): Promise<OverflowLab> {
  const upstream = await startGrid({ args: ["--warm", "1", "--threads", "1"] });
  const proxy = await startCountingProxy(upstream.baseUrl);
  try {
    return await labBefore(upstream, proxy, agentsAtStart);
  } catch (thrown) {
    await proxy.stop();
    await upstream.stop();
    throw thrown;
  }
}

async function labBefore(upstream: Grid, proxy: CountingProxy, agentsAtStart: number): Promise<OverflowLab> {
  const grid = await startGrid({
    args: ["--no-agent", "--warm", "1", "--threads", "1"],
    env: { [KEY_VARIABLE]: upstream.apiKey },
  });
  const agents: AgentProcess[] = [];
  const lab: OverflowLab = {
    grid,
    upstream,
    proxy,
    client: new OpenAI({ baseURL: grid.apiUrl, apiKey: grid.apiKey, maxRetries: 0 }),
    agents,
    addAgent: async () => {
      agents.push(await startAgent(grid.joinCode, { args: ["--threads", "1"], until: "serving" }));
    },
    killAgents: async () => {
      for (const agent of agents.splice(0)) {
        agent.killGroup("SIGKILL");
        await agent.stop();
      }
    },
    json: async (path, body, method = body === undefined ? "GET" : "POST") => {
      const response = await fetch(`${grid.baseUrl}${path}`, {
        method,
        headers: { authorization: `Bearer ${grid.apiKey}`, "content-type": "application/json" },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      const text = await response.text();
      if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
      return text.startsWith("{") && !text.includes("\n{") ? JSON.parse(text) : text;
    },
    close: async () => {
      await Promise.all([grid, upstream, ...agents].map((running) => running.stop()));
      await proxy.stop();
    },
  };
  try {
    await Promise.all([offer(lab), agentsAtStart > 0 ? lab.addAgent() : null]);
    return lab;
  } catch (thrown) {
    await Promise.all([grid, ...agents].map((running) => running.stop()));
    throw thrown;
  }
}

/** The grid's own model, and one that only the provider has; both are found out about by probing. */
async function offer(lab: OverflowLab): Promise<void> {
  const model = {
    upstreamModel: "tiny",
    cost: { inputMicroUsdPerMtok: 2_000_000, outputMicroUsdPerMtok: 4_000_000 },
    price: CLOUD_PRICE,
    contextTokensMax: 1_024,
    outputTokensMax: null,
    quantisation: "q8_0",
  };
  await lab.json(
    `/admin/v1/providers/${PROVIDER}`,
    {
      providerId: PROVIDER,
      name: "Acme",
      baseUrl: lab.proxy.baseUrl,
      credential: { kind: "environment", variable: KEY_VARIABLE },
      regions: ["eu"],
      dataPolicy: { collectsData: true, isZeroRetention: false },
      requestsPerMinuteMax: null,
      tokensPerMinuteMax: null,
      concurrencyMax: 16,
      models: [
        { ...model, modelId: "tiny" },
        { ...model, modelId: "acme/only" },
      ],
      isEnabled: true,
    },
    "PUT",
  );
  await lab.json(`/admin/v1/providers/${PROVIDER}/probe`, {});
}
