import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type NodeId, nodeId } from "../../domain/ids.ts";
import { PEER_RECORDS_MAX, PeerBans, type PeerOffence } from "./peer-bans.ts";

const node = (number: number): NodeId => nodeId(`node_${number.toString(16).padStart(32, "0")}`);
const peer = node(1);
const report = (bans: PeerBans, offence: PeerOffence, nowMs: number, draw = 1) =>
  bans.report(peer, { offence, nowMs, draw });

describe("a peer", () => {
  test("that sent a wrong chunk is left alone for the session, and reported", () => {
    for (const offence of ["bad-chunk", "wrong-length"] as const) {
      const bans = new PeerBans();
      expect(report(bans, offence, 5)).toEqual({ untilMs: Number.POSITIVE_INFINITY, isReported: true });
      bans.served(peer);
      expect(bans.isBanned(peer, 1e15)).toBe(true);
      expect(bans.nextEndMs(5)).toBe(null);
    }
  });

  test("that cannot be reached is tried again after 5 s, 10 s, 20 s, up to 5 min, and reported once", () => {
    const bans = new PeerBans();
    const waits: number[] = [];
    for (let at = 0, nowMs = 0; at < 9; at++) {
      const { untilMs, isReported } = report(bans, "unreachable", nowMs);
      expect(isReported).toBe(at === 0);
      expect(bans.isBanned(peer, untilMs - 1)).toBe(true);
      expect(bans.isBanned(peer, untilMs)).toBe(false);
      waits.push((untilMs - nowMs) / 1_000);
      nowMs = untilMs;
    }
    expect(waits).toEqual([5, 10, 20, 40, 80, 160, 300, 300, 300]);
  });

  test("that served in between is tried as soon as at first", () => {
    const bans = new PeerBans();
    for (const nowMs of [0, 10_000, 40_000]) report(bans, "unreachable", nowMs);
    bans.served(peer);
    expect(report(bans, "unreachable", 100_000)).toEqual({ untilMs: 105_000, isReported: true });
  });

  test("that broke the protocol five times does not come back", () => {
    const bans = new PeerBans();
    const ends = [1, 2, 3, 4, 5].map(() => report(bans, "breach", 0).untilMs);
    expect(ends).toEqual([120_000, 240_000, 480_000, 960_000, Number.POSITIVE_INFINITY]);
  });

  test("whose grant ended is asked with a new one at once, and twice more before it has to wait", () => {
    const bans = new PeerBans();
    expect([1, 2, 3].map((nowMs) => report(bans, "expired", nowMs).untilMs)).toEqual([1, 2, 5_003]);
  });
});

test("many that lost one holder come back at different times, none before three quarters of its wait", () => {
  const ends = Array.from({ length: 100 }, (_, at) => report(new PeerBans(), "unreachable", 0, at / 100).untilMs);
  expect(new Set(ends).size).toBeGreaterThan(90);
  expect(Math.min(...ends)).toBe(3_750);
  expect(Math.max(...ends)).toBeLessThanOrEqual(5_000);
});

test("law: the table is bounded, and a wrong chunk is forgotten for no lesser offence", () => {
  const bans = new PeerBans();
  for (let number = 0; number < 50; number++)
    bans.report(node(number), { offence: "bad-chunk", nowMs: number, draw: 0 });
  fc.assert(
    fc.property(fc.nat(1e6), fc.constantFrom<PeerOffence>("unreachable", "too-slow", "expired"), (number, offence) => {
      bans.report(node(1_000 + number), { offence, nowMs: 100 + number, draw: 0.5 });
      expect(bans.size).toBeLessThanOrEqual(PEER_RECORDS_MAX);
    }),
    { numRuns: 3_000 },
  );
  for (let number = 0; number < 50; number++) expect(bans.isBanned(node(number), 1e12)).toBe(true);
});
