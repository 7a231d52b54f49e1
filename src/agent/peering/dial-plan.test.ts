import { describe, expect, test } from "vitest";
import { CARRIER_KINDS, type CarrierKind } from "../../domain/peer.ts";
import { type CarrierState, type DialLook, planDials } from "./dial-plan.ts";

const none = (kind: CarrierKind): CarrierState => ({
  kind,
  messages: 0,
  bulks: 0,
  messagesDialled: 0,
  bulksDialled: 0,
  hasSilent: false,
  retryAtMs: 0,
});

function look(carriers: Partial<Record<CarrierKind, Partial<CarrierState>>>, change: Partial<DialLook> = {}): DialLook {
  const all = CARRIER_KINDS.map((kind) => ({ ...none(kind), ...carriers[kind] }));
  return {
    nowMs: 10_000,
    cutAtMs: null,
    isBusy: true,
    isBulkWanted: false,
    isLossy: false,
    rttMs: 1,
    width: 1,
    carriers: all,
    ...change,
  };
}

const named = (asked: DialLook) => planDials(asked).dials.map(({ kind, role }) => `${kind} ${role}`);

describe("which connections a link dials", () => {
  test("without any, the carriers start one after the other", () => {
    expect(named(look({}, { cutAtMs: 10_000 }))).toEqual(["tcp message"]);
    expect(named(look({}, { cutAtMs: 9_700 }))).toEqual(["tcp message", "udp message"]);
    expect(named(look({}, { cutAtMs: 9_000 }))).toEqual(["tcp message", "udp message", "relay message"]);
  });

  test("the one that fell silent comes last", () => {
    expect(named(look({ tcp: { hasSilent: true } }, { cutAtMs: 10_000 }))).toEqual(["udp message"]);
  });

  test("over the relay the better ones are tried again, after their pause", () => {
    expect(named(look({ relay: { messages: 1 } }))).toEqual(["tcp message", "udp message"]);
    expect(named(look({ relay: { messages: 1 }, tcp: { retryAtMs: 10_001 }, udp: { messagesDialled: 1 } }))).toEqual(
      [],
    );
  });

  test("a worse carrier's messages end when a better one has come", () => {
    expect(planDials(look({ tcp: { messages: 1 }, relay: { messages: 1 } })).ends).toEqual([
      { kind: "relay", role: "message", count: 1 },
    ]);
  });

  test("where packets are lost messages get more connections, never over the relay", () => {
    expect(named(look({ tcp: { messages: 2 } }, { isLossy: true }))).toEqual(["tcp message"]);
    expect(named(look({ tcp: { messages: 3 } }, { isLossy: true }))).toEqual([]);
    const relayed = { relay: { messages: 1 }, tcp: { retryAtMs: 99_999 }, udp: { retryAtMs: 99_999 } };
    expect(named(look(relayed, { isLossy: true, isBulkWanted: true }))).toEqual([]);
  });

  test("bulk gets TCP up to the width, and UDP beside it on a far way", () => {
    const tcp = { messages: 2, bulks: 1, bulksDialled: 1 };
    expect(named(look({ tcp }, { isBulkWanted: true, width: 4, rttMs: 40 }))).toEqual([
      "tcp bulk",
      "tcp bulk",
      "udp bulk",
    ]);
    expect(named(look({ tcp: { messages: 1, bulks: 1 } }, { isBulkWanted: true }))).toEqual([]);
  });

  test("bulk beyond the width ends", () => {
    expect(planDials(look({ tcp: { messages: 1, bulks: 6 } }, { width: 2 })).ends).toEqual([
      { kind: "tcp", role: "bulk", count: 4 },
    ]);
  });
});
