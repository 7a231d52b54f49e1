/** A model that no node can hold: the layers of its planned chain come to the nodes of that chain before somebody waits for them. */
import { beforeEach, describe, expect, test } from "vitest";
import type { ServedModel } from "../src/coordinator/dispatch/served-models.ts";
import { Forecast } from "../src/coordinator/forecast/forecast.ts";
import { WeightsDistribution } from "../src/coordinator/weights/distribution.ts";
import type { ChunkRun } from "../src/domain/chunk-set.ts";
import { toHex } from "../src/domain/hex.ts";
import { sha256Hex } from "../src/domain/ids.ts";
import type { WeightsManifest } from "../src/domain/weights.ts";
import type { KeptContent, ModelFiles } from "../src/ports/model-files.ts";
import { planPlacement } from "../src/scheduler/placement/plan-placement.ts";
import type { PlacementPlan } from "../src/scheduler/placement/plan-question.ts";
import { bytesOfChunks, chunksOfLayers } from "../src/weights/chunks-of-layers.ts";
import { coordinatorMessageSchema, type WeightsStage } from "../src/wire/agent-link.ts";
import { manifestJson, manifestSigningText, signedManifestBytes } from "../src/wire/weights-manifest.ts";
import { DispatchGrid, type HandDrivenNode } from "./support/dispatch-grid.ts";
import { GRID_ID } from "./support/membership-grid.ts";
import { GB, gpuOf, nodeFact, plannedModel, planQuestion, weightsOf } from "./support/placement-samples.ts";

const LAYERS = 32;
const MIB = 1024 * 1024;
const EMBEDDING_BYTES = 200 * MIB;
const LAYER_BYTES = 600 * MIB;
const FILE_BYTES = MIB + 2 * EMBEDDING_BYTES + LAYERS * LAYER_BYTES;
const LARGE = plannedModel("large", { fileBytes: FILE_BYTES, layerCount: LAYERS });
/** A share is here within a minute, and a second of waiting is worth more than a gigabyte. */
const OPTIONS = {
  fetchBytesPerSecond: 1e9,
  prices: { microUsdPerColdSecond: 100_000, microUsdPerGigabyte: 10_000 },
};

const manifest: WeightsManifest = {
  version: 1,
  weightsSha256: weightsOf("large"),
  chunkBytes: MIB,
  files: [
    { name: "model.gguf", fileBytes: FILE_BYTES, sha256: weightsOf("large"), chunkRoot: sha256Hex("7".repeat(64)) },
  ],
  layerCount: LAYERS,
  parts: [
    { kind: "header", ranges: [{ file: 0, offset: 0, bytes: MIB }] },
    { kind: "embedding", ranges: [{ file: 0, offset: MIB, bytes: EMBEDDING_BYTES }] },
    ...Array.from({ length: LAYERS }, (_, layer) => ({
      kind: "layer" as const,
      layer,
      ranges: [{ file: 0, offset: MIB + EMBEDDING_BYTES + layer * LAYER_BYTES, bytes: LAYER_BYTES }],
    })),
    { kind: "output", ranges: [{ file: 0, offset: FILE_BYTES - EMBEDDING_BYTES, bytes: EMBEDDING_BYTES }] },
  ],
  source: { kind: "local" },
  licence: null,
  tokenizerSha256: sha256Hex("8".repeat(64)),
};

let grid: DispatchGrid;
let forecast: Forecast;
let nodes: readonly HandDrivenNode[];
beforeEach(async () => {
  grid = new DispatchGrid();
  const { clock, crypto, log, registry, store, random } = grid;
  const gridKey = crypto.generateKeyPair();
  const large: ServedModel = {
    manifest: {
      ...grid.model.manifest,
      modelId: LARGE.modelId,
      weightsSha256: manifest.weightsSha256,
      fileBytes: FILE_BYTES,
    },
    tokenizer: grid.model.tokenizer,
  };
  const served = [large];
  const json = manifestJson(manifest);
  const signature = toHex(gridKey.sign(new TextEncoder().encode(manifestSigningText(json))));
  const publicKey = toHex(gridKey.publicKey);
  const kept: KeptContent = {
    signedManifest: signedManifestBytes({ manifestJson: json, signature, publicKey }),
    digests: new Uint8Array(0),
    files: ["/model.gguf"],
  };
  const distribution = new WeightsDistribution(
    { gridId: GRID_ID, gridKey },
    {
      clock,
      crypto,
      log,
      random,
      registry,
      meta: store.meta,
      modelFiles: filesWith(kept),
      models: {
        byWeights: (digest) => served.find((one) => one.manifest.weightsSha256 === digest) ?? null,
        list: () => served,
        onChange: () => undefined,
      },
    },
  );
  const ports = {
    clock,
    log,
    meta: store.meta,
    roster: registry,
    models: { list: () => served },
    uplink: distribution,
  };
  forecast = await grid.settled(Forecast.open(ports, OPTIONS));
  await grid.start();
  nodes = [await grid.handDrivenNode(), await grid.handDrivenNode()];
  for (const { peer } of nodes) await peer.say({ type: "weights.state", weights: [], parts: [], freeBytes: 100 * GB });
});

/** What the coordinator only gives out is never written here. */
function filesWith(kept: KeptContent): ModelFiles {
  const never = () => Promise.reject(new Error("this test's files are only read"));
  return {
    open: never,
    keep: never,
    kept: never,
    describe: never,
    mend: never,
    discard: never,
    bundled: () => [],
    content: () => Promise.resolve(kept),
  };
}

/** The planner's, over nodes that serve stages; none of them holds the model, two do. */
function planned(): PlacementPlan {
  const facts = nodes.map(({ nodeId }, at) => {
    const links = nodes.flatMap((other) =>
      other.nodeId === nodeId ? [] : [{ to: other.nodeId, rttMs: 0.4, bytesPerSecond: 1.25e9 }],
    );
    return nodeFact(at, { nodeId, devices: [gpuOf(16 * GB)], decodeTokPerSecond: 1_000, hasStageServing: true, links });
  });
  const byId = facts.toSorted((a, b) => (a.nodeId < b.nodeId ? -1 : 1));
  return planPlacement(planQuestion({ nodes: byId, models: [LARGE] }));
}

/** Time passes; the nodes are heard of, and the model is asked for. */
async function pass(seconds: number, isAsked = true): Promise<void> {
  for (let second = 0; second < seconds; second++) {
    if (isAsked) forecast.noteRequest({ modelId: LARGE.modelId });
    for (const { peer, replica } of nodes) {
      await peer.say({
        type: "heartbeat",
        seq: second,
        sentAtMs: 0,
        isYielding: false,
        memoryFreeBytes: 0,
        replicas: [replica],
      });
    }
    await grid.run(900);
  }
}

function stagedAt({ peer }: HandDrivenNode): readonly WeightsStage[] {
  return peer.frames.flatMap((frame) => {
    const message = coordinatorMessageSchema.parse(frame);
    return message.type === "weights.stage" ? [message] : [];
  });
}

/** The node fetched what it was told. */
async function bring(node: HandDrivenNode): Promise<number> {
  const [order] = stagedAt(node);
  const chunks = chunksOfLayers(manifest, order?.layers ?? null);
  const runs: readonly ChunkRun[] = chunks.runs();
  const { weightsSha256 } = manifest;
  const storedBytes = bytesOfChunks(manifest, chunks);
  await node.peer.say({ type: "weights.have", weightsSha256, runs, uploads: 0, uploadsMax: 4 });
  const parts = [{ weightsSha256, fileBytes: FILE_BYTES, storedBytes }];
  await node.peer.say({ type: "weights.state", weights: [], parts, freeBytes: 100 * GB });
  return storedBytes;
}

describe("the layers of a planned chain", () => {
  test("are ordered for its nodes one after the other, each its own, and counted by the bytes of the share", async () => {
    const plan = planned();
    expect(plan.models[0]?.replicas[0]?.kind).toBe("lan-group");
    forecast.followPlan(() => plan);
    await pass(120);
    const first = nodes.find((node) => stagedAt(node).length > 0);
    const second = nodes.find((node) => node !== first);
    if (first === undefined || second === undefined) throw new Error("one of the two nodes was told to fetch");
    expect(stagedAt(second)).toEqual([]);
    expect(forecast.stats()).toMatchObject({ ordered: 1, stagedBytes: 0 });
    const firstBytes = await bring(first);
    await pass(60);
    const secondBytes = await bring(second);
    await pass(60);
    const [a, b] = [...stagedAt(first), ...stagedAt(second)].map(({ layers }) => layers);
    if (a === undefined || b === undefined) throw new Error("both were told which layers");
    const [low, high] = a.first < b.first ? [a, b] : [b, a];
    expect(low).toMatchObject({ first: 0, hasEmbedding: true, hasOutput: false });
    expect(high).toMatchObject({ hasEmbedding: false, hasOutput: true });
    expect(high.first).toBeLessThanOrEqual(low.count);
    expect(high.first + high.count).toBe(LAYERS);
    expect(forecast.stats()).toMatchObject({ ordered: 2, stagedBytes: firstBytes + secondBytes, failed: 0 });
    for (const bytes of [firstBytes, secondBytes]) expect(bytes).toBeLessThan(16 * GB);
    expect([...(forecast.cachedWeights(first.nodeId) ?? [])]).toEqual([]);
  });

  test("count as wasted when they go unused, and are ordered again", async () => {
    const plan = planned();
    forecast.followPlan(() => plan);
    await pass(120);
    const node = nodes.find((one) => stagedAt(one).length > 0);
    if (node === undefined) throw new Error("one of the two nodes was told to fetch");
    const bytes = await bring(node);
    await pass(60);
    const { weightsSha256 } = manifest;
    await node.peer.say({ type: "weights.have", weightsSha256, runs: [], uploads: 0, uploadsMax: 4 });
    await node.peer.say({ type: "weights.state", weights: [], parts: [], freeBytes: 100 * GB });
    expect(forecast.stats()).toMatchObject({ wastedBytes: bytes, coldStartsAvoided: 0 });
    await pass(60);
    expect(nodes.flatMap(stagedAt).length).toBeGreaterThan(1);
  });

  test("are not ordered while nobody asks for the model, nor without a plan, nor where there is no room for them", async () => {
    const plan = planned();
    forecast.followPlan(() => plan);
    await pass(120, false);
    expect(forecast.stats().ordered).toBe(0);
    forecast.followPlan(() => null);
    await pass(120);
    expect(forecast.stats().ordered).toBe(0);
    forecast.followPlan(() => plan);
    for (const { peer } of nodes) await peer.say({ type: "weights.state", weights: [], parts: [], freeBytes: GB });
    await pass(60);
    expect(forecast.stats().ordered).toBe(0);
    for (const { peer } of nodes)
      await peer.say({ type: "weights.state", weights: [], parts: [], freeBytes: 100 * GB });
    await pass(60);
    expect(forecast.stats().ordered).toBe(1);
  });
});
