/** Nodes find each other on a network with no configuration: multicast over this machine's loopback, on a port of the test's own. */
import { createSocket } from "node:dgram";
import makeMdns from "multicast-dns";
import { afterEach, expect, test } from "vitest";
import { recordsOf } from "../src/adapters/lan-mdns/lan-records.ts";
import { type LanInterface, MdnsDiscovery } from "../src/adapters/lan-mdns/mdns-discovery.ts";
import type { LanAnnouncement, LanNeighbour } from "../src/ports/lan-discovery.ts";
import { freeUdpPorts } from "./support/udp-ports.ts";

const toStop: Array<{ stop(): Promise<void> }> = [];
afterEach(async () => {
  for (const one of toStop.splice(0)) await one.stop();
});

const LOOPBACK: readonly LanInterface[] = [{ address: "127.0.0.1", prefixBits: 8 }];
const agent = (digit: string, port: number): LanAnnouncement => ({
  gridId: "grid-1",
  publicKeyHex: digit.repeat(64),
  role: "agent",
  port,
});

async function start(port: number, self: LanAnnouncement | null, addresses = LOOPBACK): Promise<LanNeighbour[]> {
  const found: LanNeighbour[] = [];
  const discovery = new MdnsDiscovery({ port, addresses: () => addresses });
  const onFound = (one: LanNeighbour) => void found.push(one);
  toStop.push(self === null ? await discovery.listen(onFound) : await discovery.start(self, onFound));
  return found;
}

const keys = (found: readonly LanNeighbour[]) => [...new Set(found.map(({ publicKeyHex }) => publicKeyHex))].sort();

test("nodes of a grid find each other and its coordinator; one of another grid is told apart", async () => {
  const port = await freeUdpPorts(1);
  const one = await start(port, agent("1", 1_001));
  const two = await start(port, agent("2", 1_002));
  const other = await start(port, { ...agent("3", 1_003), gridId: "grid-2" });
  const boss = await start(port, { gridId: "grid-1", publicKeyHex: null, role: "coordinator", port: 8_420 });
  await expect.poll(() => keys(one).length).toBe(3);
  await expect.poll(() => keys(boss).length).toBe(3);
  await expect.poll(() => keys(two)).toEqual(["1".repeat(64), "3".repeat(64), null].sort());
  expect(keys(one)).not.toContain("1".repeat(64));
  expect(one.find(({ publicKeyHex }) => publicKeyHex === "2".repeat(64))).toEqual({
    ...agent("2", 1_002),
    addresses: [{ host: "127.0.0.1", port: 1_002 }],
  });
  expect(one.find(({ role }) => role === "coordinator")).toMatchObject({ gridId: "grid-1", port: 8_420 });
  expect(one.find(({ port: at }) => at === 1_003)?.gridId).toMatch(/^[0-9a-f]{32}$/);
  expect(keys(other)).toContain("1".repeat(64));
});

test("who only listens finds others and is found by nobody", async () => {
  const port = await freeUdpPorts(1);
  const one = await start(port, agent("1", 1_001));
  const listener = await start(port, null);
  await expect.poll(() => keys(listener)).toEqual(["1".repeat(64)]);
  expect(one).toEqual([]);
});

test("answers from beyond the machine's networks are dropped, and so is what cannot be read", async () => {
  const port = await freeUdpPorts(1);
  // This machine's loopback packets come from an address that the node does not count as its network's.
  const found = await start(port, agent("1", 1_001), [{ address: "127.0.0.1", prefixBits: 32 }]);
  const control = await start(port, null);
  const garbage = createSocket("udp4");
  toStop.push({ stop: () => new Promise((resolve) => garbage.close(() => resolve())) });
  for (const packet of [Buffer.from("no dns"), Buffer.alloc(12, 255)]) {
    await new Promise((resolve) => garbage.send(packet, port, "127.0.0.1", resolve));
  }
  const forger = makeMdns({ port, interface: "127.0.0.1", bind: "127.0.0.2" });
  toStop.push({ stop: () => new Promise((resolve) => forger.destroy(() => resolve())) });
  const records = recordsOf({ instance: "forged", announcement: agent("9", 9_009) }, "127.0.0.2", false);
  await new Promise((resolve) => forger.respond({ answers: records }, () => resolve(null)));
  await expect.poll(() => keys(control)).toContain("9".repeat(64));
  expect(keys(found)).not.toContain("9".repeat(64));
});
