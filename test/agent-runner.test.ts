/** The agent's runner on its own, with scripted engines in virtual time: what it takes, what it refuses, what it survives. */
import { beforeEach, describe, expect, test } from "vitest";
import { Runner } from "../src/agent/runner/runner.ts";
import type { Line } from "../src/agent/session.ts";
import { EPOCHS_PER_BOOT } from "../src/domain/lease.ts";
import { nodeIdOf } from "../src/domain/node-id.ts";
import { ObservedEngines } from "../src/sim/engine/observed-engine.ts";
import { ScriptedEngines } from "../src/sim/engine/scripted-engine.ts";
import { SimDisk, simWeights, type WeightsFault } from "../src/sim/engine/sim-weights.ts";
import { simCrypto } from "../src/sim/sim-crypto.ts";
import { simLog } from "../src/sim/sim-log.ts";
import { SimClock } from "../src/sim/time/clock.ts";
import { Host } from "../src/sim/time/host.ts";
import { SeededRandom } from "../src/sim/time/random.ts";
import { Timeline } from "../src/sim/time/timeline.ts";
import { type AgentMessage, type AttemptStart, agentMessageSchema, type ReplicaLoad } from "../src/wire/agent-link.ts";
import { CAPABILITIES, GRID_ID } from "./support/membership-grid.ts";

const BOOT = 3;
const REPLICA = "rep_01KA0000000000000000000000";
const lease = (index: number) => `lease_01KA00000000000000000000${String(index).padStart(2, "0")}`;
const LOAD: ReplicaLoad = {
  type: "replica.load",
  replicaId: REPLICA,
  modelId: "scripted",
  weightsSha256: "66".repeat(32),
  fileBytes: 1_000_000,
  contextTokens: 256,
  sequencesMax: 2,
  deviceId: "cpu",
};

let timeline: Timeline;
let runner: Runner;
let engines: ScriptedEngines;
let sent: AgentMessage[];
let line: Line;
let weightsFaults: WeightsFault[];

beforeEach(() => {
  timeline = new Timeline();
  const host = new Host("agent", timeline);
  const clock = new SimClock(host);
  const random = new SeededRandom("runner");
  const crypto = simCrypto(random);
  engines = new ScriptedEngines({ clock });
  weightsFaults = [];
  const weights = simWeights({
    host,
    disk: new SimDisk(),
    bytesPerMs: 100_000,
    fault: () => weightsFaults.shift() ?? null,
  });
  runner = new Runner(
    { clock, random, crypto, log: simLog(() => undefined), engines, weights, memoryFreeBytes: () => 1e9 },
    { devices: CAPABILITIES.devices, threads: 1 },
  );
  line = openLine(crypto.generateKeyPair(), crypto);
  runner.onLineUp(line);
});

function openLine(keyPair: Line["keyPair"], crypto: ReturnType<typeof simCrypto>): Line {
  sent = [];
  const log = sent;
  const nodeId = nodeIdOf(crypto.sha256(keyPair.publicKey));
  const welcome = {
    type: "welcome",
    nodeId,
    boot: BOOT,
    heartbeatMs: 1_000,
    sessionToken: "s".repeat(32),
    coordinatorTimeMs: 0,
  } as const;
  return {
    gridId: GRID_ID,
    nodeId,
    welcome,
    keyPair,
    send: (message) => log.push(agentMessageSchema.parse(message)),
    bufferedBytes: () => 0,
  };
}

const run = (forMs: number) => timeline.run(timeline.nowMs + forMs, () => true);
const states = () => sent.flatMap((message) => (message.type === "replica.state" ? [message.replica.state] : []));
const failures = () => sent.flatMap((message) => (message.type === "attempt.failed" ? [message.code] : []));
const tokens = () =>
  sent.flatMap((message) =>
    message.type === "attempt.chunks" ? message.chunks.flatMap(({ tokenIds }) => tokenIds) : [],
  );
const ends = () => sent.flatMap((message) => (message.type === "attempt.end" ? [message] : []));

function start(
  index: number,
  change: Partial<Omit<AttemptStart, "work">> & { work?: Partial<AttemptStart["work"]> } = {},
): AttemptStart {
  const { work, ...rest } = change;
  return {
    type: "attempt.start",
    leaseId: lease(index),
    epoch: BOOT * EPOCHS_PER_BOOT + index,
    attemptId: "att_01KA0000000000000000000000",
    replicaId: REPLICA,
    deadlineMs: 60_000,
    terms: {
      requestId: "req_01KA0000000000000000000000",
      requestSha256: "11".repeat(32),
      weightsSha256: LOAD.weightsSha256,
      tier: "default",
      inputMicroUsdPerMtok: 1,
      outputMicroUsdPerMtok: 1,
    },
    ...rest,
    work: {
      kind: "generate",
      tokenIds: [1, 2, 3],
      generatedCount: 0,
      tokensMax: 20,
      sampling: { temperature: 1, topK: 40, topP: 1, frequencyPenalty: 0, presencePenalty: 0, logitBias: [] },
      seed: "22".repeat(32),
      choice: 0,
      stopStrings: [],
      grammar: null,
      cacheScope: "33".repeat(16),
      ignoreStopTokens: true,
      topLogprobs: null,
      ...work,
    } as AttemptStart["work"],
  };
}

async function ready(): Promise<void> {
  runner.onOrder(LOAD);
  await run(2_000);
  expect(states().at(-1)).toBe("ready");
}

describe("a replica", () => {
  test("is fetched, loaded with progress, and reported ready with what it runs", async () => {
    runner.onOrder(LOAD);
    await run(2_000);
    expect(runner.replicas()).toMatchObject([
      { state: "ready", progress: 1, slots: 2, weightsSha256: LOAD.weightsSha256, deviceId: "cpu", failure: null },
    ]);
    const progress = sent.flatMap((message) => (message.type === "replica.state" ? [message.replica.progress] : []));
    expect(progress.length).toBeGreaterThan(2);
    expect(progress).toEqual([...progress].sort((a, b) => a - b));
  });

  test("whose weights cannot be reached is tried again; one whose digest is wrong is not", async () => {
    weightsFaults.push("weights-unreachable");
    runner.onOrder(LOAD);
    await run(5_000);
    expect(states()).toContain("loading");
    expect(states().at(-1)).toBe("ready");
    weightsFaults.push("weights-digest-mismatch");
    runner.onOrder({ ...LOAD, replicaId: "rep_01KA0000000000000000000001", weightsSha256: "77".repeat(32) });
    await run(60_000);
    expect(runner.replicas().at(-1)).toMatchObject({ state: "failed", failure: { code: "weights-digest-mismatch" } });
  });

  test("whose engine crashes comes back, its attempts fail with the cause, and after five times in a row it is given up", async () => {
    await ready();
    runner.onOrder(start(1));
    await run(100);
    for (const engine of engines.alive) engine.crash();
    await run(10);
    expect(failures()).toEqual(["engine-crashed"]);
    for (let crash = 2; crash <= 5; crash++) {
      await run(40_000);
      expect(states().at(-1)).toBe("ready");
      for (const engine of engines.alive) engine.crash();
      await run(10);
    }
    expect(runner.replicas()).toMatchObject([{ state: "failed", failure: { code: "engine-crashed" } }]);
  });

  test("on a device that is not there is refused", () => {
    runner.onOrder({ ...LOAD, deviceId: "cuda9" });
    expect(sent).toMatchObject([
      { type: "replica.state", replica: { state: "failed", failure: { code: "unknown-device" } } },
    ]);
  });

  test("that is unloaded fails its attempts and frees its engine", async () => {
    await ready();
    runner.onOrder(start(1));
    await run(100);
    runner.onOrder({ type: "replica.unload", replicaId: REPLICA, reason: "idle" });
    await run(100);
    expect(failures()).toEqual(["replica-not-ready"]);
    expect(states().at(-1)).toBe("gone");
    expect(runner.replicas()).toEqual([]);
    expect(engines.alive.size).toBe(0);
  });
});

test("a replica ordered right after another is unloaded waits until that one's memory is free", async () => {
  const counts = [0];
  const host = new Host("slow to free", timeline);
  const clock = new SimClock(host);
  const random = new SeededRandom("freed");
  const crypto = simCrypto(random);
  const observed = new ObservedEngines({
    host,
    inner: new ScriptedEngines({ clock }),
    memoryBytes: () => 1,
    loadFault: () => null,
    witness: (observation) => {
      if (observation.kind !== "engine") return;
      const { to } = observation.change;
      counts.push((counts.at(-1) ?? 0) + (to === "loading" ? 1 : to === "gone" ? -1 : 0));
    },
  });
  const weights = simWeights({ host, disk: new SimDisk(), bytesPerMs: 100_000, fault: () => null });
  const log = simLog(() => undefined);
  runner = new Runner(
    { clock, random, crypto, log, engines: observed, weights, memoryFreeBytes: () => 1e9 },
    { devices: CAPABILITIES.devices, threads: 1 },
  );
  runner.onLineUp(openLine(crypto.generateKeyPair(), crypto));
  await ready();
  const second = "rep_01KA0000000000000000000001";
  runner.onOrder({ type: "replica.unload", replicaId: REPLICA, reason: "idle" });
  runner.onOrder({ ...LOAD, replicaId: second });
  await run(2_000);
  expect(runner.replicas()).toMatchObject([{ replicaId: second, state: "ready" }]);
  expect(counts).toEqual([0, 1, 1, 0, 1, 1]);
});

describe("an attempt", () => {
  beforeEach(ready);

  test("streams chunks that count from 0, then its signed end", async () => {
    runner.onOrder(start(1));
    await run(1_000);
    const seqs = sent.flatMap((message) =>
      message.type === "attempt.chunks" ? message.chunks.map(({ seq }) => seq) : [],
    );
    expect(seqs).toEqual(Array.from({ length: 20 }, (_, at) => at));
    expect(ends()).toMatchObject([{ seq: 20, reason: "length", outputTokens: 20, promptTokens: 3 }]);
  });

  test("two at once share one frame for each step", async () => {
    runner.onOrder(start(1));
    runner.onOrder(start(2));
    await run(1_000);
    const perFrame = sent.flatMap((message) => (message.type === "attempt.chunks" ? [message.chunks.length] : []));
    // The end of the first goes out before the last token of the second.
    expect(perFrame).toEqual([...Array.from({ length: 19 }, () => 2), 1, 1]);
  });

  test("that is cancelled ends with what came so far, once", async () => {
    runner.onOrder(start(1));
    await run(150);
    const before = tokens().length;
    const { leaseId, epoch } = start(1);
    runner.onOrder({ type: "attempt.cancel", leaseId, epoch: epoch + 1 });
    expect(ends()).toEqual([]);
    runner.onOrder({ type: "attempt.cancel", leaseId, epoch });
    runner.onOrder({ type: "attempt.cancel", leaseId, epoch });
    await run(500);
    expect(ends()).toMatchObject([{ reason: "cancelled", outputTokens: before, seq: before }]);
    expect(tokens()).toHaveLength(before);
  });

  test.each([
    ["under an epoch of another boot", { epoch: (BOOT - 1) * EPOCHS_PER_BOOT + 1 }, "dead-epoch"],
    ["on a replica that is not here", { replicaId: "rep_01KA0000000000000000000009" }, "replica-not-ready"],
    ["with more tokens than its context", { work: { tokensMax: 254 } }, "context-exceeded"],
    ["that claims more generated than given", { work: { generatedCount: 4 } }, "invalid-attempt"],
  ] as const)("%s is refused", async (_name, change, code) => {
    runner.onOrder(start(1, change));
    await run(500);
    expect(failures()).toEqual([code]);
    expect(tokens()).toEqual([]);
  });

  test("beyond the slots is refused, and a lease that runs already too", async () => {
    runner.onOrder(start(1));
    runner.onOrder(start(1));
    runner.onOrder(start(2));
    runner.onOrder(start(3));
    await run(10);
    expect(failures()).toEqual(["invalid-attempt", "engine-overloaded"]);
  });

  test("that is not done by its deadline fails", async () => {
    runner.onOrder(start(1, { deadlineMs: 100 }));
    await run(1_000);
    expect(failures()).toEqual(["deadline-exceeded"]);
    expect(ends()).toEqual([]);
  });

  test("dies with its line without a word, and the replica stays for the next one", async () => {
    runner.onOrder(start(1));
    await run(100);
    const before = sent.length;
    runner.onLineDown();
    await run(1_000);
    expect(sent).toHaveLength(before);
    expect(runner.replicas()).toMatchObject([{ state: "ready", slotsBusy: 0 }]);
    runner.onLineUp(line);
    runner.onOrder(start(2));
    await run(1_000);
    expect(ends()).toMatchObject([{ reason: "length" }]);
  });
});

describe("when the owner comes back", () => {
  beforeEach(ready);

  test("the coordinator hears it first, attempts fail, engines end, and nothing is taken until he leaves", async () => {
    runner.onOrder(start(1));
    await run(100);
    const order: string[] = [];
    const yielding = runner.yieldNow("at the keyboard", () => order.push(`announced, ${failures().length} failed`));
    await run(10);
    await yielding;
    expect(order).toEqual(["announced, 0 failed"]);
    expect(failures()).toEqual(["yield"]);
    expect(engines.alive.size).toBe(0);
    runner.onOrder({ ...LOAD, replicaId: "rep_01KA0000000000000000000001" });
    runner.onOrder(start(2));
    await run(2_000);
    expect(states().at(-1)).toBe("gone");
    expect(failures()).toEqual(["yield", "yield"]);
    expect(runner.replicas()).toEqual([]);
    runner.resume();
    await ready();
  });
});

test("stop ends everything, and may be called twice", async () => {
  await ready();
  runner.onOrder(start(1));
  const stopped = Promise.all([runner.stop(), runner.stop()]);
  await run(100);
  await stopped;
  expect(engines.alive.size).toBe(0);
  runner.onOrder(LOAD);
  await run(2_000);
  expect(engines.alive.size).toBe(0);
});
