import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { LanAnnouncement } from "../../ports/lan-discovery.ts";
import { gridDigest, type LanRecord, RECORDS_MAX, recordsOf, SERVICE, toldBy } from "./lan-records.ts";

const KEY = "ab".repeat(32);
const NODE: LanAnnouncement = { gridId: "grid-1", publicKeyHex: KEY, role: "agent", port: 8_421 };

describe("what a node tells the local network", () => {
  test("comes back as it was told, and names the grid by a digest only", () => {
    const records = recordsOf({ instance: "0123", announcement: NODE }, "192.168.1.7", false);
    expect(JSON.stringify(records)).not.toContain(NODE.gridId);
    expect(toldBy(records)).toEqual([
      { instance: "0123", gridDigest: gridDigest("grid-1"), publicKeyHex: KEY, role: "agent", port: 8_421 },
    ]);
    const coordinator: LanAnnouncement = { ...NODE, publicKeyHex: null, role: "coordinator" };
    const told = toldBy(recordsOf({ instance: "4567", announcement: coordinator }, "10.0.0.1", false));
    expect(told).toMatchObject([{ role: "coordinator", publicKeyHex: null }]);
  });

  test("is taken back when it leaves", () => {
    expect(toldBy(recordsOf({ instance: "0123", announcement: NODE }, "192.168.1.7", true))).toEqual([]);
  });
});

describe("what a stranger sends", () => {
  const honest = recordsOf({ instance: "0123", announcement: NODE }, "192.168.1.7", false);
  const withText = (data: readonly string[]): readonly LanRecord[] =>
    honest.map((record) => (record.type === "TXT" ? { ...record, data: [...data] } : record));
  const grid = `grid=${gridDigest("grid-1")}`;

  test.each([
    ["another version", ["v=2", grid, "role=agent", `key=${KEY}`]],
    ["no key for an agent", ["v=1", grid, "role=agent"]],
    ["a key that is none", ["v=1", grid, "role=agent", "key=zz"]],
    ["a role that there is not", ["v=1", grid, "role=owner", `key=${KEY}`]],
    ["a grid that is no digest", ["v=1", "grid=../../etc", "role=coordinator"]],
    ["nothing", []],
  ])("is dropped when it says %s", (_what, data) => {
    expect(toldBy(withText(data))).toEqual([]);
  });

  test("without a port, of another service or beyond the bound on records is dropped", () => {
    expect(toldBy(honest.filter(({ type }) => type !== "SRV"))).toEqual([]);
    expect(
      toldBy(honest.map((record) => ({ ...record, name: record.name.replace(SERVICE, "_http._tcp.local") }))),
    ).toEqual([]);
    const padding = Array.from(
      { length: RECORDS_MAX },
      (): LanRecord => ({ type: "A", name: "x.local", data: "10.0.0.1" }),
    );
    expect(toldBy([...padding, ...honest])).toEqual([]);
  });

  test("never throws, and never gives a neighbour that is out of bounds", () => {
    const text = fc.oneof(fc.string({ maxLength: 40 }), fc.constantFrom("v=1", grid, "role=agent", "role=coordinator"));
    fc.assert(
      fc.property(fc.array(text, { maxLength: 8 }), fc.integer({ min: -5, max: 70_000 }), (data, port) => {
        const records = withText(data).map((record) =>
          record.type === "SRV" ? { ...record, data: { ...record.data, port } } : record,
        );
        for (const told of toldBy(records)) {
          expect(told.port).toBeGreaterThan(0);
          expect(told.port).toBeLessThan(65_536);
          expect(told.gridDigest).toMatch(/^[0-9a-f]{32}$/);
        }
      }),
    );
  });
});
