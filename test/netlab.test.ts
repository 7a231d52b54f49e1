/** The lab itself: what packets meet on their way, who reaches whom, and that nothing of a lab outlives it. Needs root. */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { median } from "../bench/lib/quantiles.ts";
import { namespacesWithPrefix, sweepDeadOwners } from "./netlab/namespaces.ts";
import { type Netlab, netlabAbsent, startNetlab } from "./netlab/netlab.ts";
import { ask, ECHO_PORT, HTTPS_PORT, startProbe, UDP_PORTS } from "./netlab/probe.ts";

const absent = netlabAbsent();
const DEMO = fileURLToPath(new URL("netlab/demo.ts", import.meta.url));
const LIFE_MS = 120_000;
/** A busy machine is late; nothing is early. */
const LATE_FACTOR = 3;
const GONE_WAIT_MS = 20_000;
const STRANGER_PORT = 7_999;

describe.skipIf(absent !== null)(`a network lab${absent === null ? "" : ` (left out: ${absent})`}`, () => {
  const start = () =>
    startNetlab({
      hosts: {
        near: {},
        far: { congestion: "reno" },
        slow: {},
        ann: { lan: "flat" },
        ben: { lan: "flat" },
        cleo: { lan: "office" },
        dora: { lan: "villa" },
        emil: { lan: "bank" },
        finn: { lan: "cafe" },
        lone: { lan: "island" },
        other: { lan: "island" },
      },
      nats: {
        flatnat: { lan: "flat", kind: "cone", forwards: [{ protocol: "tcp", port: 8_000, to: "192.168.1.3:7000" }] },
        officenat: { lan: "office", kind: "random" },
        villanat: { lan: "villa", kind: "full-cone" },
        banknat: { lan: "bank", kind: "cone", egress: "tcp443-only" },
        cafenat: { lan: "cafe", kind: "cone", egress: "udp-blocked" },
      },
      links: {
        near: {},
        far: { delayMs: 15 },
        slow: { delayMs: 5, rateMbit: 20, queueKb: 100 },
        flatnat: { delayMs: 5 },
        officenat: {},
        villanat: {},
        banknat: {},
        cafenat: {},
      },
      lans: { island: { rateMbit: 50 } },
      congestion: "cubic",
      seed: 4,
      lifeMs: LIFE_MS,
    });
  let lab: Awaited<ReturnType<typeof start>>;
  beforeAll(async () => {
    lab = await start();
    await Promise.all([startProbe(lab.host("near")), startProbe(lab.host("far")), startProbe(lab.host("ben"))]);
  });
  afterAll(async () => {
    await lab?.stop();
  });

  const at = (name: "near" | "far", port: number = UDP_PORTS[0]) => ({ address: lab.host(name).address, port });
  const received = async (from: Parameters<typeof lab.host>[0], to: ReturnType<typeof at>, waitMs = 1_000) =>
    (await ask(lab.host(from), { kind: "udp", to: [to], waitMs })).replies.length;

  test("a packet takes the delays of both links, there and back, and no less", async () => {
    const { replies } = await ask(lab.host("slow"), { kind: "udp", to: [at("far")], count: 50, intervalMs: 5 });
    const rttsMs = replies.map(({ rttMs }) => rttMs);
    expect(replies).toHaveLength(50);
    expect(Math.min(...rttsMs)).toBeGreaterThanOrEqual(40);
    expect(median(rttsMs)).toBeLessThan(40 * LATE_FACTOR);
  });

  test("a share of the packets is lost, in the direction that was asked for, and every one is counted", async () => {
    const link = lab.link("near");
    const before = await link.counters();
    await link.set({ lossShareDown: 0.2 });
    const { replies } = await ask(lab.host("cleo"), {
      kind: "udp",
      to: [at("near")],
      count: 500,
      intervalMs: 1,
      waitMs: 500,
    });
    await link.set({ lossShareDown: 0 });
    const { up, down } = await link.counters();
    const lost = down.lostPackets - before.down.lostPackets;
    expect(replies).toHaveLength(500 - lost);
    // Four standard deviations of a binomial of 500 and 0.2 are 36.
    expect(lost).toBeGreaterThan(100 - 36);
    expect(lost).toBeLessThan(100 + 36);
    expect(up.lostPackets).toBe(before.up.lostPackets);
  });

  test("losses in bursts come together", async () => {
    const link = lab.link("near");
    const before = await link.counters();
    await link.set({ burst: { enterShare: 0.02, leaveShare: 0.1, lossShare: 1 } });
    const { replies } = await ask(lab.host("cleo"), {
      kind: "udp",
      to: [at("near")],
      count: 400,
      intervalMs: 1,
      waitMs: 500,
    });
    await link.set({ burst: null });
    const { up, down } = await link.counters();
    const lost = up.lostPackets + down.lostPackets - before.up.lostPackets - before.down.lostPackets;
    const numbers = new Set(replies.map(({ number }) => number));
    const missing = Array.from({ length: 400 }, (_, number) => number).filter((number) => !numbers.has(number));
    const runs = missing.filter((number) => !missing.includes(number - 1)).length;
    expect(missing).toHaveLength(lost);
    expect(missing.length / runs).toBeGreaterThan(2);
  });

  test("a link carries its rate, and drops what its queue cannot hold", async () => {
    const { bytes, mbit } = await ask(lab.host("slow"), {
      kind: "download",
      address: lab.host("near").address,
      bytes: 4_000_000,
    });
    expect(bytes).toBe(4_000_000);
    expect(mbit).toBeLessThan(21);
    expect(mbit).toBeGreaterThan(20 / LATE_FACTOR);
    const { down } = await lab.link("slow").counters();
    expect(down.bytes).toBeGreaterThan(4_000_000);
    expect(down.queueDroppedPackets).toBeGreaterThan(0);
    expect(down.bytes / down.packets).toBeLessThanOrEqual(1_400);
  });

  test("a host behind a router takes large segments of a fast LAN through a smaller link", async () => {
    const before = (await lab.link("flatnat").counters()).down;
    const address = lab.host("near").address;
    const { bytes } = await ask(lab.host("ann"), { kind: "download", address, bytes: 8_000_000 });
    const after = (await lab.link("flatnat").counters()).down;
    expect(bytes).toBe(8_000_000);
    expect(after.bytes - before.bytes).toBeGreaterThan(8_000_000);
    expect((after.bytes - before.bytes) / (after.packets - before.packets)).toBeLessThanOrEqual(1_400);
  });

  test("what hosts of one LAN say to each other takes nothing of the internet", async () => {
    const before = await lab.link("flatnat").counters();
    const { address } = lab.host("ben");
    const { bytes } = await ask(lab.host("ann"), { kind: "download", address, bytes: 20_000_000 });
    const after = await lab.link("flatnat").counters();
    expect(bytes).toBe(20_000_000);
    expect(after.up.bytes + after.down.bytes - before.up.bytes - before.down.bytes).toBeLessThan(10_000);
  });

  test("a cut link passes nothing, a connection across it lives on when it is back", async () => {
    const link = lab.link("far");
    const client = lab.host("cleo").spawn(process.execPath, [
      "-e",
      `const socket = require("node:net").connect(${ECHO_PORT}, "${lab.host("far").address}");
       socket.on("connect", () => console.log("connected"));
       socket.on("data", (data) => console.log(String(data)));
       process.stdin.on("data", (data) => socket.write(String(data).trim()));`,
    ]);
    if (client.stdout === null || client.stdin === null) throw new Error("the client has pipes");
    const lines = createInterface({ input: client.stdout })[Symbol.asyncIterator]();
    expect((await lines.next()).value).toBe("connected");
    await link.cut();
    client.stdin.write("one\n");
    expect(await received("cleo", at("far"), 300)).toBe(0);
    await link.restore();
    expect((await lines.next()).value).toBe("one");
    expect(await received("cleo", at("far"))).toBe(1);
    client.kill("SIGKILL");
  });

  test("two parts of the internet that are kept apart reach everyone else", async () => {
    await lab.partition("near", "slow");
    expect(await received("slow", at("near"), 300)).toBe(0);
    expect(await received("slow", at("far"))).toBe(1);
    expect(await received("cleo", at("near"))).toBe(1);
    await lab.heal("near", "slow");
    expect(await received("slow", at("near"))).toBe(1);
  });

  test("a host whose cable is out reaches nobody on its LAN until it is back", async () => {
    const { address } = lab.host("ben");
    const to = { address, port: UDP_PORTS[0] };
    await lab.host("ben").unplug();
    expect((await ask(lab.host("ann"), { kind: "udp", to: [to], waitMs: 300 })).replies).toHaveLength(0);
    await lab.host("ben").plug();
    expect((await ask(lab.host("ann"), { kind: "udp", to: [to], count: 20, intervalMs: 20 })).replies).not.toHaveLength(
      0,
    );
  });

  describe("a router that translates addresses", () => {
    const mappings = async (name: "ann" | "cleo" | "dora", localPort: number) => {
      const to = [at("near"), at("near", UDP_PORTS[1]), at("far")];
      const { replies } = await ask(lab.host(name), { kind: "udp", to, localPort });
      expect(replies).toHaveLength(to.length);
      for (const { seenAddress } of replies) expect(seenAddress).toBe(lab.host(name).publicAddress);
      return [...new Set(replies.map(({ seenPort }) => seenPort))];
    };
    /** Whether a reply passes that comes from another port than the one that was asked. */
    const hearsStranger = async (name: "ann" | "cleo" | "dora") =>
      (await ask(lab.host(name), { kind: "udp", to: [at("near")], replyPort: STRANGER_PORT, waitMs: 400 })).replies
        .length === 1;

    test("cone: one port for all who are asked, and no stranger gets in", async () => {
      expect(await mappings("ann", 40_000)).toEqual([40_000]);
      expect(await hearsStranger("ann")).toBe(false);
    });

    test("random: another port for each who is asked, and no stranger gets in", async () => {
      expect(await mappings("cleo", 40_000)).toHaveLength(3);
      expect(await hearsStranger("cleo")).toBe(false);
    });

    test("full cone: one port for all, and whoever sends to it gets in", async () => {
      expect(await mappings("dora", 40_000)).toEqual([40_000]);
      expect(await hearsStranger("dora")).toBe(true);
    });

    test("a forwarded port leads to its host, and no other port to anything", async () => {
      const address = lab.host("ann").publicAddress ?? "";
      const from = lab.host("near");
      expect((await ask(from, { kind: "tcp", address, port: 8_000 })).isOpen).toBe(true);
      expect((await ask(from, { kind: "tcp", address, port: ECHO_PORT, waitMs: 300 })).isOpen).toBe(false);
    });

    test("two hosts of one LAN that send from one port are told apart", async () => {
      const both = await Promise.all(
        (["ann", "ben"] as const).map((name) =>
          ask(lab.host(name), { kind: "udp", to: [at("far")], localPort: 40_001, count: 10, intervalMs: 30 }),
        ),
      );
      const ports = both.map(({ replies }) => new Set(replies.map(({ seenPort }) => seenPort)));
      expect(both.map(({ replies }) => replies.length)).toEqual([10, 10]);
      expect(ports.map(({ size }) => size)).toEqual([1, 1]);
    });

    test("where only TCP 443 may leave, it does, and nothing else", async () => {
      const from = lab.host("emil");
      const { address } = lab.host("near");
      expect((await ask(from, { kind: "tcp", address, port: HTTPS_PORT, count: 1 })).rttsMs).toHaveLength(1);
      expect((await ask(from, { kind: "tcp", address, port: ECHO_PORT, waitMs: 300 })).isOpen).toBe(false);
      expect(await received("emil", at("near"), 300)).toBe(0);
    });

    test("where UDP is blocked, TCP leaves", async () => {
      const { address } = lab.host("near");
      expect((await ask(lab.host("finn"), { kind: "tcp", address, count: 1 })).isOpen).toBe(true);
      expect(await received("finn", at("near"), 300)).toBe(0);
    });
  });

  test("a multicast packet reaches the others on a LAN, with and without a router on it", async () => {
    const group = "224.0.0.251";
    for (const [from, to] of [
      ["ann", "ben"],
      ["lone", "other"],
    ] as const) {
      const listener = lab.host(to).spawn(process.execPath, [
        "-e",
        `const socket = require("node:dgram").createSocket("udp4");
         socket.on("message", (data, from) => console.log(data + " of " + from.address));
         socket.bind(5353, () => { socket.addMembership("${group}"); console.log("joined"); });`,
      ]);
      if (listener.stdout === null) throw new Error("the listener has a pipe");
      const lines = createInterface({ input: listener.stdout })[Symbol.asyncIterator]();
      expect((await lines.next()).value).toBe("joined");
      const say = `const socket = require("node:dgram").createSocket("udp4"); socket.send("hello", 5353, "${group}", () => socket.close())`;
      await lab.host(from).run(process.execPath, ["-e", say]);
      expect((await lines.next()).value).toBe(`hello of ${lab.host(from).address}`);
      listener.kill("SIGKILL");
    }
  });

  test("a LAN without a router reaches its own at the rate of its cables, and nothing outside", async () => {
    expect(lab.host("lone").publicAddress).toBeNull();
    const probe = await startProbe(lab.host("other"));
    const { address } = lab.host("other");
    expect((await ask(lab.host("lone"), { kind: "tcp", address })).isOpen).toBe(true);
    expect((await ask(lab.host("lone"), { kind: "tcp", ...at("near"), waitMs: 300 })).isOpen).toBe(false);
    const { mbit } = await ask(lab.host("lone"), { kind: "download", address, bytes: 5_000_000 });
    expect(mbit).toBeLessThan(60);
    expect(mbit).toBeGreaterThan(50 / LATE_FACTOR);
    probe.kill("SIGKILL");
  });

  test("TCP is controlled by what the host was given, at both ends", async () => {
    const client = lab
      .host("near")
      .spawn(process.execPath, [
        "-e",
        `require("node:net").connect(${ECHO_PORT}, "${lab.host("far").address}").on("data", () => console.log("echoed")).write("x")`,
      ]);
    if (client.stdout !== null) await once(client.stdout, "data");
    const isEcho = ({ local, remote }: { local: string; remote: string }) =>
      [local, remote].some((address) => address.endsWith(`:${ECHO_PORT}`));
    const near = (await lab.host("near").tcpSockets()).filter(isEcho);
    const far = (await lab.host("far").tcpSockets()).filter(isEcho);
    client.kill("SIGKILL");
    expect(near.map(({ congestion }) => congestion)).toContain("cubic");
    expect(new Set(near.map(({ congestion }) => congestion))).toEqual(new Set(["cubic"]));
    expect(far.map(({ congestion }) => congestion)).toContain("reno");
    expect(new Set(far.map(({ congestion }) => congestion))).toEqual(new Set(["reno"]));
  });

  test("the emulator reads every packet in time", async () => {
    const { overrunPackets, unroutedPackets } = await lab.counters();
    expect(overrunPackets).toBe(0);
    expect(unroutedPackets).toBe(0);
  });
});

describe.skipIf(absent !== null)("a lab's end", () => {
  const startOwner = async () => {
    const owner = spawn(process.execPath, [DEMO, "2"], { stdio: ["pipe", "pipe", "inherit"] });
    const [line]: unknown[] = await once(createInterface({ input: owner.stdout }), "line");
    const [, prefix = "", emulator, probe] = /^lab (\S+) is up .*emulator (\d+), probe (\d+)$/.exec(String(line)) ?? [];
    expect(namespacesWithPrefix(prefix).length).toBeGreaterThan(0);
    return { owner, prefix, emulatorPid: Number(emulator), probePid: Number(probe) };
  };
  const untilGone = async (isGone: () => boolean) => {
    const endMs = performance.now() + GONE_WAIT_MS;
    while (!isGone() && performance.now() < endMs) await new Promise((resolve) => setTimeout(resolve, 20));
    expect(isGone()).toBe(true);
  };

  test("a lab whose owner is killed is removed with what ran in it", async () => {
    const { owner, prefix, probePid } = await startOwner();
    owner.kill("SIGKILL");
    await untilGone(() => namespacesWithPrefix(prefix).length === 0);
    await untilGone(() => !isAlive(probePid));
  });

  test("a lab whose owner and emulator are killed is removed by the next lab", async () => {
    const { owner, prefix, emulatorPid, probePid } = await startOwner();
    process.kill(emulatorPid, "SIGKILL");
    owner.kill("SIGKILL");
    await once(owner, "exit");
    expect(namespacesWithPrefix(prefix).length).toBeGreaterThan(0);
    const next: Netlab<"one", never> = await startNetlab({ hosts: { one: {} } });
    expect(namespacesWithPrefix(prefix)).toEqual([]);
    expect(namespacesWithPrefix(next.prefix)).toHaveLength(1);
    await untilGone(() => !isAlive(probePid));
    await next.stop();
    expect(namespacesWithPrefix(next.prefix)).toEqual([]);
  });

  test("a lab ends by itself when its life is over", async () => {
    const lab = await startNetlab({ hosts: { one: {} }, lifeMs: 300 });
    await untilGone(() => namespacesWithPrefix(lab.prefix).length === 0);
    await lab.stop();
  });

  test("a sweep leaves the labs of living owners alone", async () => {
    const lab = await startNetlab({ hosts: { one: {} } });
    expect(sweepDeadOwners().filter((name) => name.startsWith(lab.prefix))).toEqual([]);
    expect(namespacesWithPrefix(lab.prefix)).toHaveLength(1);
    await lab.stop();
    await lab.stop();
  });

  test("a lab that cannot be is refused with the reason", async () => {
    await expect(startNetlab({ hosts: { one: {} }, nats: { gate: { lan: "flat", kind: "cone" } } })).rejects.toThrow(
      "the NAT gate has no link",
    );
    await expect(startNetlab({ hosts: { One: {} } })).rejects.toThrow("the name One is not of");
    await expect(startNetlab({ hosts: { one: {} }, links: { one: { lossShare: 2 } } })).rejects.toThrow();
  });
});

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false; // no such process
  }
}
