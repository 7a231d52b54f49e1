/**
 * Nodes behind NATs in the lab: which of them meet directly, which through the coordinator, and that nothing of a grid leaves for other
 * networks. Needs root on Linux; the whole table with its times is bench/nat-table.bench.ts.
 */
import { expect, test } from "vitest";
import { netlabAbsent } from "./netlab/netlab.ts";
import { startNatGrid } from "./support/nat-grid.ts";

const absent = netlabAbsent();
const LAB_MS_MAX = 120_000;
/** Everything that a lab has addresses for; anything else would be a stranger. */
const LAB_NETWORKS = "{ 127.0.0.0/8, 192.168.0.0/16, 203.0.113.0/24, 224.0.0.0/4 }";

test.skipIf(absent !== null)(
  "two NATs that keep ports are punched through, and not one packet goes to a public network",
  { timeout: LAB_MS_MAX },
  async () => {
    await using grid = await startNatGrid(
      { a: { kind: "cone" }, b: { kind: "cone" } },
      {
        prepare: async (lab) => {
          for (const name of ["coordinator", "a", "b"] as const) {
            const rules = `table ip strangers { chain out { type filter hook output priority 0; ip daddr != ${LAB_NETWORKS} counter; }; }`;
            expect((await lab.host(name).run("nft", [rules])).code).toBe(0);
          }
        },
      },
    );
    const strangers = async (name: "coordinator" | "a" | "b") => {
      const { stdout } = await grid.lab.host(name).run("nft", ["list", "chain", "ip", "strangers", "out"]);
      return Number(/packets (\d+)/.exec(stdout)?.[1] ?? Number.NaN);
    };
    expect([grid.a.hasUdp, grid.b.hasUdp]).toEqual([true, true]);
    const dialled = await grid.dial("udp", 1_048_576);
    expect(dialled).toMatchObject({ ok: true, carrier: "udp", peerKeyHex: grid.a.publicKeyHex });
    for (const name of ["coordinator", "a", "b"] as const) expect(await strangers(name), name).toBe(0);
    // The counter counts: one datagram to a bootstrap node of the library's public network.
    const send = `require("node:dgram").createSocket("udp4").send("x", 49737, "88.99.3.86", () => process.exit())`;
    await grid.lab.host("a").run(process.execPath, ["-e", send]);
    expect(await strangers("a")).toBe(1);
  },
);

test.skipIf(absent !== null)(
  "two NATs that draw ports are not, and the coordinator carries their bytes",
  { timeout: LAB_MS_MAX },
  async () => {
    await using grid = await startNatGrid({ a: { kind: "random" }, b: { kind: "random" } });
    expect(await grid.dial("udp", 0)).toMatchObject({ ok: false, carrier: "udp" });
    const dialled = await grid.dial("relay", 4_194_304);
    expect(dialled).toMatchObject({ ok: true, carrier: "relay", peerKeyHex: grid.a.publicKeyHex });
  },
);

test.skipIf(absent !== null)(
  "a node whose only way out is TCP 443 is reached all the same",
  { timeout: LAB_MS_MAX },
  async () => {
    await using grid = await startNatGrid({ a: { kind: "random", egress: "tcp443-only" }, b: { kind: "cone" } });
    expect([grid.a.hasUdp, grid.b.hasUdp]).toEqual([false, true]);
    const dialled = await grid.dial("relay", 1_048_576);
    expect(dialled).toMatchObject({ ok: true, carrier: "relay", peerKeyHex: grid.a.publicKeyHex });
  },
);
