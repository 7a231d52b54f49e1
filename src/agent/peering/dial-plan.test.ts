import { describe, expect, test } from "vitest";
import { CARRIER_KINDS, type CarrierKind } from "../../domain/peer.ts";
import type { CarrierChoices } from "./carrier-watch.ts";
import { type CarrierLook, type DialLook, planDials } from "./dial-plan.ts";

const NOTHING = { message: 0, bulk: 0, spare: 0 };
type Change = Partial<Omit<CarrierLook, "live" | "dialled">> & {
  readonly live?: Partial<CarrierLook["live"]>;
  readonly dialled?: Partial<CarrierLook["dialled"]>;
};

const carrier = (kind: CarrierKind, change: Change = {}): CarrierLook => ({
  kind,
  hasSilent: false,
  hasFailed: false,
  retryAtMs: 0,
  isMeasured: false,
  ...change,
  live: { ...NOTHING, ...change.live },
  dialled: { ...NOTHING, ...change.dialled },
});

const ON_TCP: CarrierChoices = { message: "tcp", bulk: ["tcp"], due: [] };
const ON_RELAY: CarrierChoices = { message: "relay", bulk: ["relay"], due: [] };

function look(carriers: Partial<Record<CarrierKind, Change>>, change: Partial<DialLook> = {}): DialLook {
  return {
    nowMs: 10_000,
    cutAtMs: null,
    busySinceMs: 9_900,
    isBulkWanted: false,
    isLossy: false,
    rttMs: 1,
    width: 1,
    choices: ON_TCP,
    carriers: CARRIER_KINDS.map((kind) => carrier(kind, carriers[kind])),
    ...change,
  };
}

const dials = (asked: DialLook) => planDials(asked).dials.map(({ kind, role }) => `${kind} ${role}`);
const ends = (asked: DialLook) => planDials(asked).ends.map(({ kind, role, count }) => `${count} ${kind} ${role}`);

describe("a link without messages", () => {
  test("starts the carriers one after the other", () => {
    expect(dials(look({}, { cutAtMs: 10_000 }))).toEqual(["tcp message"]);
    expect(dials(look({}, { cutAtMs: 9_700 }))).toEqual(["tcp message", "udp message"]);
    expect(dials(look({}, { cutAtMs: 9_000 }))).toEqual(["tcp message", "udp message", "relay message"]);
  });

  test("begins where a spare answers, and ends with what failed and what fell silent", () => {
    expect(dials(look({ udp: { live: { spare: 1 } } }, { cutAtMs: 10_000 }))).toEqual(["udp message"]);
    expect(dials(look({ tcp: { hasSilent: true }, udp: { hasFailed: true } }, { cutAtMs: 9_600 }))).toEqual([
      "relay message",
      "udp message",
    ]);
  });
});

describe("messages", () => {
  test("go to the carrier that was chosen, and end elsewhere when they are up there", () => {
    const choices = { ...ON_TCP, message: "udp" } as const;
    const before = look({ tcp: { live: { message: 1 } }, udp: { live: { spare: 1 } } }, { choices });
    expect([dials(before), ends(before)]).toEqual([["udp message"], []]);
    const after = look({ tcp: { live: { message: 1 } }, udp: { live: { spare: 1, message: 1 } } }, { choices });
    expect(ends(after)).toEqual(["1 tcp message", "1 udp spare"]);
  });

  test("on the relay try the direct carriers, those that failed when their time has come", () => {
    const live = { relay: { live: { message: 1 } } };
    expect(dials(look(live, { choices: ON_RELAY }))).toEqual(["tcp message", "udp message"]);
    const failed = { ...live, tcp: { hasFailed: true }, udp: { dialled: { message: 1 } } };
    expect(dials(look(failed, { choices: ON_RELAY }))).toEqual([]);
    expect(dials(look(failed, { choices: { ...ON_RELAY, due: ["tcp"] } }))).toEqual(["tcp message"]);
  });

  test("get more connections where the way is far or packets are lost, one of them on the other direct carrier, never over the relay", () => {
    const lossy = { isLossy: true, busySinceMs: 9_999 };
    expect(dials(look({ tcp: { live: { message: 2 } } }, lossy))).toEqual(["tcp message"]);
    expect(dials(look({ tcp: { live: { message: 3 } } }, lossy))).toEqual([]);
    const beside = { tcp: { live: { message: 2 } }, udp: { live: { bulk: 1 } } };
    expect(dials(look(beside, lossy))).toEqual(["udp message"]);
    const far = { tcp: { live: { message: 1 } }, udp: { live: { spare: 1 } } };
    expect(dials(look(far, { rttMs: 40 }))).toEqual(["udp message"]);
    const relayed = { relay: { live: { message: 1 } }, tcp: { retryAtMs: 99_999 }, udp: { retryAtMs: 99_999 } };
    expect(dials(look(relayed, { ...lossy, choices: ON_RELAY, isBulkWanted: true }))).toEqual([]);
  });
});

describe("bulk", () => {
  test("gets TCP up to the width, and one over UDP, where they were chosen", () => {
    const tcp = { live: { message: 2, bulk: 1 }, dialled: { bulk: 1 } };
    const choices = { ...ON_TCP, bulk: ["tcp", "udp"] } as const;
    expect(dials(look({ tcp }, { isBulkWanted: true, width: 4, choices }))).toEqual([
      "tcp bulk",
      "tcp bulk",
      "udp bulk",
    ]);
    expect(dials(look({ tcp: { live: { message: 1, bulk: 1 } } }, { isBulkWanted: true }))).toEqual([]);
  });

  test("ends beyond the width, and where it is not chosen once the chosen one carries it", () => {
    expect(ends(look({ tcp: { live: { message: 1, bulk: 6 } } }, { width: 2 }))).toEqual(["4 tcp bulk"]);
    const choices = { ...ON_TCP, bulk: ["udp"] } as const;
    const both = { tcp: { live: { message: 1, bulk: 2 } }, udp: { live: { bulk: 1 } } };
    expect(ends(look(both, { isBulkWanted: true, width: 2, choices }))).toEqual(["2 tcp bulk"]);
    const notYet = { tcp: { live: { message: 1, bulk: 2 } } };
    expect(ends(look(notYet, { isBulkWanted: true, width: 2, choices }))).toEqual([]);
  });
});

describe("a spare", () => {
  const live = { tcp: { live: { message: 1 } } };

  test("is dialled on the other direct carrier when something moves: at once on a far way, after a while on a near one", () => {
    expect(dials(look({ tcp: { live: { message: 2 } } }, { rttMs: 40 }))).toEqual(["udp spare"]);
    expect(dials(look(live))).toEqual([]);
    expect(dials(look(live, { busySinceMs: 8_000 }))).toEqual(["udp spare"]);
    expect(dials(look(live, { busySinceMs: null }))).toEqual([]);
  });

  test("is not dialled again before its time where that failed, and on the relay only for a measurement", () => {
    const failed = { ...live, udp: { hasFailed: true } };
    expect(dials(look(failed, { busySinceMs: 0 }))).toEqual([]);
    expect(dials(look(failed, { busySinceMs: 0, choices: { ...ON_TCP, due: ["udp", "relay"] } }))).toEqual([
      "udp spare",
      "relay spare",
    ]);
  });

  test("ends when it has measured and nothing moves, and on the relay at once", () => {
    const measured = { live: { spare: 1 }, isMeasured: true };
    expect(ends(look({ ...live, udp: measured, relay: measured }))).toEqual(["1 relay spare"]);
    expect(ends(look({ ...live, udp: measured }, { busySinceMs: null }))).toEqual(["1 udp spare"]);
    expect(ends(look({ ...live, udp: { ...measured, isMeasured: false } }, { busySinceMs: null }))).toEqual([]);
  });
});
