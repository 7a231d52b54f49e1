/** Runners that hold stages, in virtual time with scripted engines: orders of the coordinator, attempts at both ends, owners, lost lines. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { sharePeers } from "../src/agent/peer-server.ts";
import { openPeerNetwork } from "../src/agent/peering/peer-network.ts";
import { Runner } from "../src/agent/runner/runner.ts";
import type { Line } from "../src/agent/session.ts";
import { sha256Hex } from "../src/domain/ids.ts";
import { EPOCHS_PER_BOOT } from "../src/domain/lease.ts";
import { nodeIdOf } from "../src/domain/node-id.ts";
import { DEFAULT_SAMPLING } from "../src/domain/sampling.ts";
import type { KeyPair } from "../src/ports/crypto.ts";
import type { PeerNetwork } from "../src/ports/peer-link.ts";
import { ScriptedEngines } from "../src/sim/engine/scripted-engine.ts";
import { scriptedAnswer } from "../src/sim/engine/scripted-model.ts";
import { ScriptedStages } from "../src/sim/engine/scripted-stage-host.ts";
import { SimDisk, simWeights } from "../src/sim/engine/sim-weights.ts";
import { simCrypto } from "../src/sim/sim-crypto.ts";
import { simLog } from "../src/sim/sim-log.ts";
import { SimClock } from "../src/sim/time/clock.ts";
import { Host } from "../src/sim/time/host.ts";
import { SeededRandom } from "../src/sim/time/random.ts";
import { Timeline } from "../src/sim/time/timeline.ts";
import { type AgentMessage, type AttemptStart, agentMessageSchema, type ReplicaLoad } from "../src/wire/agent-link.ts";
import { CAPABILITIES, GRID_ID } from "./support/membership-grid.ts";
import { MemoryNet } from "./support/memory-carrier.ts";

const BOOT = 3;
const LAYERS = 4;
const WEIGHTS = "66".repeat(32);
const SEED = "07".repeat(32);
const PROMPT = [5, 9, 13, 21, 34];

class Node {
  readonly keyHex: string;
  readonly runner: Runner;
  readonly network: PeerNetwork;
  readonly line: Line;
  readonly replicaId: string;
  readonly first: number;
  sent: AgentMessage[] = [];

  constructor(index: number, parts: { lab: Lab; stages: ScriptedStages }) {
    const { clock, random, net, host } = parts.lab;
    const crypto = simCrypto(random);
    const log = simLog(() => undefined);
    this.first = index * 2;
    this.replicaId = `rep_01KA000000000000000000000${index}`;
    const keyPair: KeyPair = crypto.generateKeyPair();
    this.keyHex = Buffer.from(keyPair.publicKey).toString("hex");
    this.network = openPeerNetwork({ clock, random, crypto, log, carriers: [net.carrier("tcp", this.keyHex)] });
    const shared = sharePeers(this.network);
    this.runner = new Runner(
      {
        clock,
        random,
        crypto,
        log,
        engines: new ScriptedEngines({ clock }),
        weights: simWeights({
          host,
          disk: new SimDisk(),
          bytesPerMs: 100_000,
          fault: () => null,
          layerCount: () => LAYERS,
        }),
        memoryFreeBytes: () => 1e9,
        stages: {
          engines: parts.stages,
          files: { ensure: () => Promise.resolve("stage.gguf"), rest: () => undefined },
          network: this.network,
          serveChains: (server) => shared.serveChains(server),
          spill: () => null,
        },
      },
      { devices: CAPABILITIES.devices, threads: 1 },
    );
    this.line = {
      gridId: GRID_ID,
      nodeId: nodeIdOf(crypto.sha256(keyPair.publicKey)),
      welcome: {
        type: "welcome",
        nodeId: nodeIdOf(crypto.sha256(keyPair.publicKey)),
        boot: BOOT,
        heartbeatMs: 1_000,
        sessionToken: "s".repeat(32),
        coordinatorTimeMs: 0,
      },
      keyPair,
      send: (message) => this.sent.push(agentMessageSchema.parse(message)),
      bufferedBytes: () => 0,
    };
    this.runner.onLineUp(this.line);
  }

  load(change: Partial<ReplicaLoad> = {}): void {
    this.runner.onOrder({
      type: "replica.load",
      replicaId: this.replicaId,
      modelId: "scripted",
      weightsSha256: WEIGHTS,
      fileBytes: 1_000_000,
      contextTokens: 256,
      sequencesMax: 2,
      deviceId: "cpu",
      stage: { first: this.first, count: 2, layerCount: LAYERS, wire: "f32" },
      ...change,
    });
  }

  of<T extends AgentMessage["type"]>(type: T): readonly Extract<AgentMessage, { type: T }>[] {
    return this.sent.filter((message): message is Extract<AgentMessage, { type: T }> => message.type === type);
  }
}

class Lab {
  readonly timeline = new Timeline();
  readonly host = new Host("all", this.timeline);
  readonly clock = new SimClock(this.host);
  readonly random = new SeededRandom("agent-stages");
  readonly net = new MemoryNet({ delayMs: () => 5, after: (delayMs, fire) => void this.host.after(delayMs, fire) });
  readonly stages = new ScriptedStages({ clock: this.clock });
  readonly nodes = [0, 1].map((index) => new Node(index, { lab: this, stages: this.stages }));

  pass(ms: number): Promise<void> {
    return this.timeline.run(this.timeline.nowMs + ms, () => true);
  }

  async serve(chainEpoch: number): Promise<void> {
    const stages = this.nodes.map(({ replicaId, keyHex: publicKey, line, first }) => {
      const endpoints = { tcp: [{ host: "192.0.2.1", port: 1 }], hasUdp: false };
      return { replicaId, publicKey, nodeId: line.nodeId, endpoints, first, count: 2 };
    });
    for (const { runner, replicaId } of this.nodes) {
      runner.onOrder({ type: "chain.set", replicaId, chainId: "ab".repeat(16), chainEpoch, stages });
    }
    await this.pass(500);
  }

  /** To both ends, as the coordinator does. */
  start(index: number, tokensMax = 30, work?: AttemptStart["work"]): AttemptStart {
    const order: AttemptStart = {
      type: "attempt.start",
      leaseId: `lease_01KA00000000000000000000${String(index).padStart(2, "0")}`,
      epoch: BOOT * EPOCHS_PER_BOOT + index,
      attemptId: "att_01KA0000000000000000000000",
      replicaId: "",
      deadlineMs: 60_000,
      terms: {
        requestId: "req_01KA0000000000000000000000",
        requestSha256: "11".repeat(32),
        weightsSha256: WEIGHTS,
        tier: "default",
        inputMicroUsdPerMtok: 1,
        outputMicroUsdPerMtok: 1,
      },
      work: work ?? {
        kind: "generate",
        tokenIds: PROMPT,
        generatedCount: 0,
        tokensMax,
        sampling: { ...DEFAULT_SAMPLING, logitBias: [] },
        seed: SEED,
        choice: 0,
        stopStrings: [],
        grammar: null,
        cacheScope: "00".repeat(16),
        ignoreStopTokens: false,
        topLogprobs: null,
      },
    };
    for (const { runner, replicaId } of this.nodes) runner.onOrder({ ...order, replicaId });
    return order;
  }

  get head(): Node {
    return this.#at(0);
  }

  get tail(): Node {
    return this.#at(1);
  }

  #at(index: number): Node {
    const node = this.nodes[index];
    if (node === undefined) throw new Error(`no node ${index}`);
    return node;
  }
}

let lab: Lab;
beforeEach(async () => {
  lab = new Lab();
  for (const node of lab.nodes) node.load();
  await lab.pass(2_000);
  await lab.serve(1);
});
afterEach(async () => {
  const stopping = Promise.all(lab.nodes.map(({ runner }) => runner.stop()));
  await lab.pass(1_000);
  await stopping;
  for (const { network } of lab.nodes) void network.close();
});

const isLinked = ({ sent }: Node) => {
  const last = sent.findLast((message) => message.type === "chain.state");
  return last?.isLinked ?? null;
};
const tokensOf = (node: Node) =>
  node.of("attempt.chunks").flatMap(({ chunks }) => chunks.flatMap(({ tokenIds }) => tokenIds));
const expected = (tokensMax: number) =>
  scriptedAnswer(
    { tokenIds: PROMPT, generatedCount: 0, sampling: DEFAULT_SAMPLING, seed: sha256Hex(SEED), choice: 0 },
    tokensMax,
    LAYERS,
  ).tokenIds;

describe("nodes that hold stages", () => {
  test("tell of them as replicas with their layers, and of the chain once it is linked", () => {
    expect(lab.nodes.map(({ runner }) => runner.replicas()[0])).toMatchObject([
      { state: "ready", stage: { first: 0, count: 2 }, weightsSha256: WEIGHTS },
      { state: "ready", stage: { first: 2, count: 2 } },
    ]);
    expect(lab.nodes.map(isLinked)).toEqual([true, true]);
  });

  test("answer at the last one, with one signed end", async () => {
    lab.start(1);
    await lab.pass(10_000);
    expect(tokensOf(lab.tail)).toEqual(expected(30));
    expect(lab.tail.of("attempt.end")).toMatchObject([
      { promptTokens: PROMPT.length, outputTokens: expected(30).length },
    ]);
    expect([lab.head.of("attempt.end"), lab.head.of("attempt.failed")]).toEqual([[], []]);
    expect(lab.nodes.map(({ runner }) => runner.replicas()[0]?.slotsBusy)).toEqual([0, 0]);
  });

  test("stop at both ends when an attempt is cancelled", async () => {
    const { leaseId, epoch } = lab.start(1, 200);
    await lab.pass(300);
    expect(lab.head.runner.replicas()[0]?.slotsBusy).toBe(1);
    for (const { runner } of lab.nodes) runner.onOrder({ type: "attempt.cancel", leaseId, epoch });
    await lab.pass(100);
    const before = tokensOf(lab.tail).length;
    await lab.pass(2_000);
    expect(lab.tail.of("attempt.end")).toMatchObject([{ reason: "cancelled", outputTokens: before }]);
    expect(lab.nodes.map(({ runner }) => runner.replicas()[0]?.slotsBusy)).toEqual([0, 0]);
  });

  test("keep stages, keys and values when a line is lost, and drop the attempts", async () => {
    lab.start(1, 200);
    await lab.pass(300);
    for (const { runner } of lab.nodes) runner.onLineDown();
    await lab.pass(1_000);
    const before = tokensOf(lab.tail).length;
    for (const { runner, line } of lab.nodes) runner.onLineUp(line);
    await lab.pass(1_500);
    expect(lab.nodes.map(isLinked)).toEqual([true, true]);
    expect(tokensOf(lab.tail)).toHaveLength(before);
    lab.tail.sent = [];
    lab.start(2);
    await lab.pass(10_000);
    expect(tokensOf(lab.tail)).toEqual(expected(30));
  });

  test("give no embeddings, and say so by name", async () => {
    lab.start(1, 0, { kind: "embed", inputs: [[1, 2, 3]] });
    await lab.pass(500);
    expect(lab.tail.of("attempt.failed").map(({ code }) => code)).toEqual(["embeddings-unsupported"]);
  });

  test("let everything go when the owner comes back, and the other end names the loss", async () => {
    lab.start(1, 200);
    await lab.pass(300);
    const yielded = lab.tail.runner.yieldNow("the owner is back", () => undefined);
    await lab.pass(1_500);
    await yielded;
    expect(lab.stages.alive.size).toBe(1);
    expect(lab.tail.of("attempt.failed").map(({ code }) => code)).toEqual(["yield"]);
    expect(lab.tail.runner.replicas()).toEqual([]);
    expect(lab.head.of("chain.trouble").map(({ kind, accused }) => [kind, accused])).toEqual([
      ["stage-silent", lab.tail.replicaId],
    ]);
  });

  test("start an engine again that crashed, and tell of the loss", async () => {
    for (const stage of lab.stages.alive) if (stage.info.share.first === 2) stage.crash();
    await lab.pass(100);
    expect(lab.tail.of("chain.trouble").map(({ kind }) => kind)).toEqual(["engine-lost"]);
    await lab.pass(3_000);
    expect(lab.tail.runner.replicas()[0]?.state).toBe("ready");
    await lab.serve(2);
    lab.start(1);
    await lab.pass(10_000);
    expect(tokensOf(lab.tail)).toEqual(expected(30));
  });

  test("refuse layers that the model does not have, and attempts where no chain is set", async () => {
    const replicaId = "rep_01KA0000000000000000000009";
    lab.head.load({ replicaId, stage: { first: 3, count: 9, layerCount: LAYERS, wire: "f32" } });
    await lab.pass(500);
    const refused = lab.head.runner.replicas().find((replica) => replica.replicaId === replicaId);
    expect(refused).toMatchObject({ state: "failed", failure: { code: "stage-refused" } });
    const other = "rep_01KA0000000000000000000008";
    lab.head.load({ replicaId: other });
    await lab.pass(2_000);
    const order = lab.start(7);
    lab.head.runner.onOrder({ ...order, leaseId: `lease_01KA0000000000000000000099`, replicaId: other });
    expect(lab.head.of("attempt.failed").map(({ code }) => code)).toEqual(["replica-not-ready"]);
  });
});
