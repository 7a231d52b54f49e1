import { describe, expect, test } from "vitest";
import { LINK_CLOSE, type Link } from "../../ports/link.ts";
import { Host } from "../time/host.ts";
import { SeededRandom } from "../time/random.ts";
import { Timeline } from "../time/timeline.ts";
import { CALM_NETWORK, type NetworkConditions, PacketNetwork } from "./packet-network.ts";
import { SimInternet } from "./sim-dialer.ts";
import { GIVE_UP_MS, RECEIVE_BUFFER_BYTES_MAX, RETRANSMIT_MAX_MS } from "./sim-link.ts";

const TARGET = { url: "http://sim", certificateSha256: null };
const AWFUL: NetworkConditions = {
  delayMinMs: 1,
  delayTailMeanMs: 50,
  lossProbability: 0.2,
  replayProbability: 0.3,
  bytesPerMs: 1_250,
};

function grid(conditions: NetworkConditions, seed = "1") {
  const timeline = new Timeline();
  const network = new PacketNetwork({ timeline, random: new SeededRandom(seed), conditions });
  const coordinator = new Host("coordinator", timeline);
  const node = new Host("node-0", timeline);
  const internet = new SimInternet({
    network,
    coordinator,
    tap: { onFrame: () => undefined, onSent: () => undefined, onClosed: () => undefined },
  });
  const served: Link[] = [];
  internet.listen({ host: coordinator, onLink: (link) => served.push(link) });
  const run = (untilMs: number) => timeline.run(untilMs, () => true);
  const connect = async () => {
    let near: Link | null = null;
    void internet
      .dialerFrom(node)
      .dial(TARGET, new AbortController().signal)
      .then((link) => {
        near = link;
      });
    for (let atMs = 0; atMs <= 6_000 && (near === null || served.length === 0); atMs += 100) await run(atMs);
    const far = served[0];
    if (near === null || far === undefined) throw new Error("the handshake took more than 6 s");
    return { near: near as Link, far };
  };
  return { timeline, network, coordinator, node, internet, run, connect };
}

function record(link: Link) {
  const frames: string[] = [];
  const closed: { code: number; reason: string }[] = [];
  link.listen({ onFrame: (frame) => frames.push(frame), onClose: (code, reason) => closed.push({ code, reason }) });
  return { frames, closed };
}

describe("a simulated link", () => {
  test("delivers every frame once and in order over a network that loses, repeats and reorders packets", async () => {
    for (let seed = 0; seed < 10; seed++) {
      const { connect, run, timeline } = grid(AWFUL, `awful-${seed}`);
      const { near, far } = await connect();
      const got = record(far);
      const back = record(near);
      const sent = Array.from({ length: 200 }, (_, index) => `frame ${index}`);
      for (const frame of sent) {
        near.send(frame);
        far.send(`${frame} back`);
      }
      await run(timeline.nowMs + 120_000);
      expect(got.frames).toEqual(sent);
      expect(back.frames).toEqual(sent.map((frame) => `${frame} back`));
    }
  });

  test("closes at both ends with the code and reason, after what was queued", async () => {
    const { connect, run, timeline } = grid(CALM_NETWORK);
    const { near, far } = await connect();
    const [here, there] = [record(near), record(far)];
    near.send("last");
    near.close(LINK_CLOSE.silent, "silent too long");
    near.send("never");
    await run(timeline.nowMs + 5_000);
    expect(there.frames).toEqual(["last"]);
    expect(there.closed).toEqual([{ code: 4008, reason: "silent too long" }]);
    expect(here.closed).toEqual([{ code: 4008, reason: "silent too long" }]);
  });

  test("stays open to a frozen process, and shows what piles up", async () => {
    const { connect, run, timeline, node } = grid(CALM_NETWORK);
    const { near, far } = await connect();
    const [here, there] = [record(near), record(far)];
    node.freeze();
    const frame = "x".repeat(10_000);
    for (let sent = 0; sent < 100; sent++) far.send(frame);
    await run(timeline.nowMs + 60_000);
    expect(there.closed).toEqual([]);
    expect(here.frames).toEqual([]);
    expect(far.bufferedBytes()).toBeGreaterThan(100 * 10_000 - 2 * RECEIVE_BUFFER_BYTES_MAX);
    node.thaw();
    await run(timeline.nowMs + 60_000);
    expect(here.frames).toHaveLength(100);
    expect(far.bufferedBytes()).toBe(0);
  });

  test("is reset at once when the other process is killed", async () => {
    const { connect, run, timeline, node, internet } = grid(CALM_NETWORK);
    const { near, far } = await connect();
    record(near);
    const there = record(far);
    internet.drop("node-0", { isPowerLoss: false });
    node.kill({ isPowerLoss: false });
    await run(timeline.nowMs + 10);
    expect(there.closed.map(({ code }) => code)).toEqual([1006]);
  });

  test("notices lost power only by silence, or when the machine is back", async () => {
    const { connect, run, timeline, node, internet } = grid(CALM_NETWORK);
    const { near, far } = await connect();
    record(near);
    const there = record(far);
    internet.drop("node-0", { isPowerLoss: true });
    node.kill({ isPowerLoss: true });
    far.send("hello?");
    await run(timeline.nowMs + 5_000);
    expect(there.closed).toEqual([]);
    await run(timeline.nowMs + GIVE_UP_MS + RETRANSMIT_MAX_MS);
    expect(there.closed.map(({ code }) => code)).toEqual([1006]);
  });

  test("survives a partition shorter than its patience without losing a frame", async () => {
    const { connect, run, timeline, network } = grid(CALM_NETWORK);
    const { near, far } = await connect();
    const got = record(far);
    record(near);
    network.cut("node-0", "coordinator");
    near.send("through");
    await run(timeline.nowMs + 8_000);
    expect(got.frames).toEqual([]);
    network.heal("node-0", "coordinator");
    await run(timeline.nowMs + 5_000);
    expect(got.frames).toEqual(["through"]);
  });

  test("is refused at once where nobody listens, and after a while where nobody answers", async () => {
    const { internet, node, coordinator, run, timeline } = grid(CALM_NETWORK);
    const fates: [string, number][] = [];
    const dial = () => {
      internet
        .dialerFrom(node)
        .dial(TARGET, new AbortController().signal)
        .catch((fault: Error) => fates.push([fault.message, timeline.nowMs]));
    };
    coordinator.kill({ isPowerLoss: false });
    dial();
    await run(100);
    expect(fates).toEqual([["no link to http://sim: connection refused", expect.any(Number)]]);
    coordinator.restart();
    coordinator.kill({ isPowerLoss: true });
    dial();
    await run(4_000);
    expect(fates).toHaveLength(1);
    await run(6_000);
    expect(fates[1]?.[0]).toBe("no link to http://sim: no answer in 5000 ms");
  });
});
