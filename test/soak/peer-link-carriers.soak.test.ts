/**
 * Links over the real carriers in the lab: what a cut of one of them costs in mid-transfer, and that no byte is lost. Needs root on Linux; the figures
 * on a long and lossy way are those of bench/peer-link.bench.ts.
 */
import { describe, expect, test } from "vitest";
import { netlabAbsent } from "../netlab/netlab.ts";
import { startCarrierLab } from "../support/carrier-lab.ts";

const absent = netlabAbsent();
const LAB_MS_MAX = 120_000;
const MIB = 1024 * 1024;
const WAY = { delayMs: 20, rateMbit: 100 };
/** The whole of it: noticing a silence, another carrier, and bytes from there. */
const CUT_MS_MAX = 2_000;

describe.skipIf(absent !== null)("a link over TCP, UDP and the relay", { timeout: LAB_MS_MAX }, () => {
  test("goes on over UDP when TCP falls silent, and over the relay when UDP does too", async () => {
    await using lab = await startCarrierLab(WAY);
    const seen: (string | null)[] = [];
    const fetched = await lab.fetch(64 * MIB, [
      {
        bytes: 16 * MIB,
        onMark: async (carrier) => {
          seen.push(carrier);
          await lab.drop("tcp");
        },
      },
      {
        bytes: 36 * MIB,
        onMark: async (carrier) => {
          seen.push(carrier);
          await lab.drop("udp");
        },
      },
      { bytes: 56 * MIB, onMark: async (carrier) => void seen.push(carrier) },
    ]);
    expect(seen).toEqual(["tcp", "udp", "relay"]);
    if (!fetched.ok) throw new Error(fetched.why);
    for (const pauseMs of fetched.pausesMs ?? []) expect(pauseMs).toBeLessThan(CUT_MS_MAX);
  });

  test("goes on when TCP is reset and refused", async () => {
    await using lab = await startCarrierLab(WAY);
    const seen: (string | null)[] = [];
    const fetched = await lab.fetch(96 * MIB, [
      {
        bytes: 16 * MIB,
        onMark: async (carrier) => {
          seen.push(carrier);
          await lab.reset();
        },
      },
      {
        bytes: 32 * MIB,
        onMark: async (carrier) => {
          seen.push(carrier);
          await lab.heal();
        },
      },
    ]);
    expect(seen).toEqual(["tcp", "udp"]);
    if (!fetched.ok) throw new Error(fetched.why);
    for (const pauseMs of fetched.pausesMs ?? []) expect(pauseMs).toBeLessThan(CUT_MS_MAX);
  });
});
