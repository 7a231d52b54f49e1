/**
 * A model that fits on no single node, by the product's own processes: agents whose memory is limited, the stock OpenAI client, and the same texts as
 * from a node that holds the whole model; also when a node is killed in the middle of eight answers.
 */
import OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { expectOneChargeEach, expectSameStreams, receiptOf } from "./support/chain-checks.ts";
import { CHAIN_MODEL_ID, ChainGrid } from "./support/chain-grid.ts";
import { vramOfStage } from "./support/chain-model.ts";
import { type ReadStream, streamBodies } from "./support/chain-streams.ts";
import { CHAIN_PLACES } from "./support/chain-view.ts";
import { runFallow } from "./support/grid.ts";

const START_MS_MAX = 240_000;
const FAULT_MS_MAX = 120_000;
const CONCURRENT = streamBodies(16, { model: CHAIN_MODEL_ID, tokens: 48 });
const FAULTED = streamBodies(8, { model: CHAIN_MODEL_ID, tokens: 120, seed: 900 });
/** Of each stream that is in the middle when its node is killed. */
const STRUCK_AT = 30;
const MODELS = z.object({ models: z.array(z.object({ modelId: z.string(), replicasReady: z.number() })) });
const LENDING = z.object({
  nodes: z.array(z.object({ nodeId: z.string(), devices: z.array(z.object({ lentBytes: z.number() })) })),
});

describe.each([2, 3])("over %i agents", (stages) => {
  let chains: ChainGrid;
  const answered: ReadStream[] = [];
  beforeAll(async () => {
    chains = await ChainGrid.start({ stages, askWhole: CONCURRENT });
  }, START_MS_MAX);
  afterAll(() => chains?.stop());

  test("sixteen requests at once are streamed, each with the text of the whole model", async () => {
    const streams = await chains.streams(CONCURRENT);
    answered.push(...streams);
    expectSameStreams(streams, chains.whole);
  });

  test("one request alone has the text that it had among others", async () => {
    const streams = await chains.streams(CONCURRENT.slice(3, 4));
    answered.push(...streams);
    expectSameStreams(streams, chains.whole.slice(3, 4));
  });

  test("a whole answer and a chat come as from any other model", async () => {
    const { apiUrl, apiKey } = chains.grid;
    const client = new OpenAI({ baseURL: apiUrl, apiKey, maxRetries: 0 });
    const [body] = CONCURRENT;
    const answer = await client.completions.create({ ...body, model: CHAIN_MODEL_ID, prompt: String(body?.prompt) });
    expect(answer.choices[0]?.text).toBe(chains.whole[0]?.text);
    const [model] = (await client.models.list()).data;
    // It gives no embeddings, and does not list them.
    expect(model).toMatchObject({ id: CHAIN_MODEL_ID, output_modalities: ["text"] });
  });

  test("nodes are listed with what they lend under their limit", async () => {
    const limitBytes = Number.parseInt(vramOfStage({ stages, sequences: 16 }), 10);
    const { stdout } = await runFallow(["nodes", "--json"], { home: chains.grid.home });
    const { nodes } = LENDING.parse(JSON.parse(stdout));
    for (const { nodeId } of chains.agents) {
      const [device] = nodes.find((node) => node.nodeId === nodeId)?.devices ?? [];
      expect(device?.lentBytes).toBe(limitBytes);
    }
  });

  test("the chain is drawn with every node and its layers", async () => {
    const chain = await chains.chain();
    expect(chain.stages.map(({ nodeId }) => nodeId).toSorted()).toEqual(
      chains.agents.map(({ nodeId }) => nodeId).toSorted(),
    );
    expect(chain.stages[0]?.first).toBe(0);
    expect(chain.stages.reduce((sum, { count }) => sum + count, 0)).toBe(10);
    const { code, stdout, stderr } = await runFallow(["status", "--pipeline"], { home: chains.grid.home });
    expect(code, stderr).toBe(0);
    for (const { nodeId } of chain.stages) expect(stdout).toContain(nodeId.slice(-6));
  });

  test("the chain counts as one replica of its model, however many nodes hold stages", async () => {
    const { stdout } = await runFallow(["models", "--json"], { home: chains.grid.home });
    const { models } = MODELS.parse(JSON.parse(stdout));
    expect(models.find(({ modelId }) => modelId === CHAIN_MODEL_ID)?.replicasReady).toBe(1);
  });

  test("an answer is charged once, and every node of the chain has its part", async () => {
    const [first] = answered;
    if (first === undefined) throw new Error("there was an answer");
    const { attempts, choices } = await receiptOf(chains, first);
    expect(attempts).toMatchObject([{ ending: "finished", acknowledgedTokens: first.completionTokens }]);
    expect(choices).toMatchObject([{ outputTokens: first.completionTokens }]);
    const earned = z.object({ nodes: z.array(z.object({ nodeId: z.string(), earnedMicroUsd: z.number() })) });
    const { nodes } = await chains.json("/admin/v1/nodes", earned);
    const { stages: own } = await chains.chain();
    const micro = own.map(({ nodeId }) => nodes.find((node) => node.nodeId === nodeId)?.earnedMicroUsd ?? 0);
    const perLayer = micro.map((paid, at) => paid / (own[at]?.count ?? 0));
    // Each answer's shares are rounded down to a micro-USD.
    expect(Math.min(...perLayer)).toBeGreaterThan(0);
    expect(Math.max(...perLayer) - Math.min(...perLayer)).toBeLessThan(answered.length + 2);
  });

  test("answers that run when their model is removed are told to the end, and nothing new is asked of it", async () => {
    const removals: Promise<Response>[] = [];
    const streams = await chains.streams(CONCURRENT.slice(0, 2), () => {
      const { baseUrl, apiKey } = chains.grid;
      const headers = { authorization: `Bearer ${apiKey}` };
      if (removals.length > 0) return;
      removals.push(fetch(`${baseUrl}/admin/v1/models/${CHAIN_MODEL_ID}`, { method: "DELETE", headers }));
    });
    expect((await Promise.all(removals)).map(({ status }) => status)).toEqual([200]);
    expectSameStreams(streams, chains.whole.slice(0, 2));
    const [late] = await chains.streams(CONCURRENT.slice(0, 1));
    expect(late?.error).toContain("model");
  });
});

describe("a node of three is killed under eight streams, another one stands by", () => {
  let chains: ChainGrid;
  const answered: ReadStream[] = [];
  beforeAll(async () => {
    chains = await ChainGrid.start({ stages: 3, nodes: 4, askWhole: FAULTED });
    answered.push(...chains.whole);
  }, START_MS_MAX);
  afterAll(() => chains?.stop());

  test.each(CHAIN_PLACES)(
    "the %s one: every text is the whole model's, and charged once",
    {
      timeout: FAULT_MS_MAX,
    },
    async (place) => {
      const before = await chains.chain();
      let strike: ReturnType<ChainGrid["strike"]> | null = null;
      const counts = FAULTED.map(() => 0);
      const streams = await chains.streams(FAULTED, (stream, count) => {
        counts[stream] = count;
        if (strike === null && Math.min(...counts) >= STRUCK_AT) strike = chains.strike(place, "SIGKILL");
      });
      if (strike === null) throw new Error("a node was killed");
      const { agent }: Awaited<ReturnType<ChainGrid["strike"]>> = await strike;
      answered.push(...streams);
      expectSameStreams(streams, chains.whole);
      const after = await chains.chain();
      expect(after.chainId).toBe(before.chainId);
      expect(after.stages.map(({ nodeId }) => nodeId)).not.toContain(agent.nodeId);
      const survivors = before.stages.filter(({ nodeId }) => nodeId !== agent.nodeId);
      expect(after.stages).toEqual(
        expect.arrayContaining(survivors.map(({ replicaId }) => expect.objectContaining({ replicaId }))),
      );
      await expectOneChargeEach(chains, answered);
      await chains.addAgent(await chains.bury(agent));
    },
  );
});
