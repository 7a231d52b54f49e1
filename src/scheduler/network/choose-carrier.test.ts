import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { CARRIER_KINDS, type CarrierKind } from "../../domain/peer.ts";
import {
  bulkCarriers,
  type CarrierChoice,
  type CarrierState,
  chooseCarrier,
  HOLD_MS,
  REMEASURE_MS,
  type TrafficKind,
} from "./choose-carrier.ts";

interface Figures {
  readonly rttMs?: number | null;
  readonly loss?: number | null;
  readonly rate?: number | null;
  readonly atMs?: number;
}
const up = (kind: CarrierKind, { rttMs = null, loss = null, rate = null, atMs = 0 }: Figures = {}): CarrierState => ({
  kind,
  reach: "up",
  failures: 0,
  sinceMs: 0,
  quality: { carrier: kind, rttMs, lossShare: loss, bytesPerSecond: rate, measuredAtMs: atMs },
  isPossible: true,
});
const failed = (kind: CarrierKind, failures = 1, sinceMs = 0): CarrierState => ({
  ...up(kind),
  reach: "failed",
  failures,
  sinceMs,
  quality: null,
});
const untried = (kind: CarrierKind): CarrierState => ({ ...up(kind), reach: "untried", quality: null });
const choose = (
  traffic: TrafficKind,
  carriers: readonly CarrierState[],
  choice: CarrierChoice | null = null,
  nowMs = 0,
) => chooseCarrier(traffic, carriers, { nowMs, choice });
const kindOf = (...args: Parameters<typeof choose>) => choose(...args).choice?.carrier ?? null;

describe("the first choice", () => {
  test("on a local network is TCP for both", () => {
    const carriers = [up("tcp", { rttMs: 0.5 }), up("udp", { rttMs: 0.8 }), up("relay", { rttMs: 30 })];
    expect(kindOf("message", carriers)).toBe("tcp");
    expect(kindOf("bulk", carriers)).toBe("tcp");
  });

  test("for bulk is what was measured to carry the most", () => {
    expect(kindOf("bulk", [up("tcp", { rttMs: 150, rate: 2e6 }), up("udp", { rttMs: 150, rate: 9e6 })])).toBe("udp");
  });

  test("for bulk over a long way that loses packets is UDP, before anything was measured", () => {
    expect(kindOf("bulk", [up("tcp", { rttMs: 150, loss: 0.02 }), up("udp", { rttMs: 150 })])).toBe("udp");
    expect(kindOf("bulk", [up("tcp", { rttMs: 20, loss: 0 }), up("udp", { rttMs: 20 })])).toBe("tcp");
  });

  test("is direct where the relay is a little better, and the relay where direct is much worse", () => {
    expect(kindOf("message", [up("udp", { rttMs: 50 }), up("relay", { rttMs: 40 })])).toBe("udp");
    expect(kindOf("message", [up("udp", { rttMs: 300 }), up("relay", { rttMs: 40 })])).toBe("relay");
  });

  test("is the relay where nothing else is up, and none where nothing is", () => {
    expect(kindOf("bulk", [failed("tcp"), untried("udp"), up("relay")])).toBe("relay");
    expect(kindOf("bulk", [failed("tcp"), untried("udp"), failed("relay")])).toBe(null);
  });
});

describe("a choice in use", () => {
  const onTcp = (sinceMs = 0): CarrierChoice => ({ carrier: "tcp", sinceMs });

  test("moves at once when its carrier fails", () => {
    expect(choose("bulk", [failed("tcp"), up("udp")], onTcp(99), 100).choice).toEqual({ carrier: "udp", sinceMs: 100 });
  });

  test("moves from the relay at once when a direct way comes up", () => {
    const carriers = [up("tcp", { rttMs: 45 }), up("relay", { rttMs: 40 })];
    expect(kindOf("message", carriers, { carrier: "relay", sinceMs: 99 }, 100)).toBe("tcp");
  });

  test("moves to a better one only when it is much better and the choice is not young", () => {
    const carriers = (rttMs: number) => [up("tcp", { rttMs: 100 }), up("udp", { rttMs })];
    expect(kindOf("message", carriers(90), onTcp(), HOLD_MS)).toBe("tcp");
    expect(kindOf("message", carriers(50), onTcp(), HOLD_MS - 1)).toBe("tcp");
    expect(kindOf("message", carriers(50), onTcp(), HOLD_MS)).toBe("udp");
    const bulk = (rate: number) => [up("tcp", { rate: 1e6 }), up("udp", { rate })];
    expect(kindOf("bulk", bulk(1.2e6), onTcp(), HOLD_MS)).toBe("tcp");
    expect(kindOf("bulk", bulk(1.4e6), onTcp(), HOLD_MS)).toBe("udp");
  });

  test("does not move for fractions of a millisecond, however large their share", () => {
    expect(kindOf("message", [up("tcp", { rttMs: 1 }), up("udp", { rttMs: 0.2 })], onTcp(), HOLD_MS)).toBe("tcp");
  });
});

describe("what bulk uses", () => {
  const kinds = (carriers: readonly CarrierState[], main: CarrierKind) => bulkCarriers(carriers, main);

  test("is one carrier on a near way that loses nothing", () => {
    expect(kinds([up("tcp", { rttMs: 1, rate: 5e7 }), up("udp", { rttMs: 1 })], "tcp")).toEqual(["tcp"]);
  });

  test("is TCP and UDP on a far or lossy way, before anything was measured", () => {
    expect(kinds([up("tcp", { rttMs: 40 }), up("udp", { rttMs: 40 })], "tcp")).toEqual(["tcp", "udp"]);
    expect(kinds([up("tcp", { rttMs: 2, loss: 0.01 }), up("udp", { rttMs: 2 })], "udp")).toEqual(["tcp", "udp"]);
  });

  test("is not what was measured to bring next to nothing, nor what does not answer, nor the relay beside another", () => {
    const far = up("tcp", { rttMs: 40, rate: 1e7 });
    expect(kinds([far, up("udp", { rttMs: 40, rate: 1e5 }), up("relay")], "tcp")).toEqual(["tcp"]);
    expect(kinds([far, failed("udp")], "tcp")).toEqual(["tcp"]);
    expect(kinds([failed("tcp"), up("relay")], "relay")).toEqual(["relay"]);
  });

  test("does not move to UDP on a near way because TCP brings less than UDP might", () => {
    const carriers = [up("tcp", { rttMs: 2, loss: 0, rate: 1e6 }), up("udp", { rttMs: 2 })];
    expect(kindOf("bulk", carriers, { carrier: "tcp", sinceMs: 0 }, HOLD_MS)).toBe("tcp");
  });
});

describe("what to measure next", () => {
  test("is what was never tried, at once, then what failed, with waits that double", () => {
    const { measure } = choose(
      "bulk",
      [failed("tcp", 3, 1_000), untried("udp"), up("relay", { rttMs: 1, atMs: 500 })],
      null,
      2_000,
    );
    expect(measure).toEqual([
      { carrier: "udp", what: "dial", atMs: 2_000 },
      { carrier: "tcp", what: "dial", atMs: 1_000 + 20_000 },
      { carrier: "relay", what: "probe", atMs: 500 + REMEASURE_MS },
    ]);
  });

  test("keeps hole punching 20 s apart, and any wait at a minute", () => {
    const at = (kind: CarrierKind, failures: number) => choose("bulk", [failed(kind, failures)]).measure[0]?.atMs;
    expect([at("udp", 1), at("udp", 2), at("tcp", 1), at("tcp", 50), at("udp", 50)]).toEqual([
      20_000, 40_000, 5_000, 60_000, 60_000,
    ]);
  });

  test("is the relay only where no direct way is short", () => {
    const measured = (rttMs: number) =>
      choose("message", [up("tcp", { rttMs }), untried("relay")], null, 5).measure.filter(({ atMs }) => atMs <= 5);
    expect(measured(40)).toEqual([]);
    expect(measured(200)).toEqual([{ carrier: "relay", what: "dial", atMs: 5 }]);
  });

  test("is nothing that the pair cannot have", () => {
    expect(choose("bulk", [{ ...untried("udp"), isPossible: false }]).measure).toEqual([]);
  });
});

describe("laws", () => {
  const figures = fc.record({
    rttMs: fc.option(fc.double({ min: 0.1, max: 500, noNaN: true })),
    loss: fc.option(fc.double({ min: 0, max: 0.3, noNaN: true })),
    rate: fc.option(fc.double({ min: 0, max: 1e8, noNaN: true })),
  });
  const reach = fc.constantFrom("up", "failed", "untried");
  const carriers = fc.tuple(
    ...CARRIER_KINDS.map((kind) =>
      fc
        .tuple(reach, figures)
        .map(
          ([one, found]): CarrierState =>
            one === "up" ? up(kind, found) : one === "failed" ? failed(kind) : untried(kind),
        ),
    ),
  );
  const traffic = fc.constantFrom<TrafficKind>("message", "bulk");

  test("something is chosen whenever something is up, and only what is up", () => {
    fc.assert(
      fc.property(carriers, traffic, fc.constantFrom(...CARRIER_KINDS), fc.nat(50_000), (states, kind, old, nowMs) => {
        const chosen = kindOf(kind, states, { carrier: old, sinceMs: 0 }, nowMs);
        const reachable = states.filter((state) => state.reach === "up").map((state) => state.kind);
        if (reachable.length === 0) expect(chosen).toBe(null);
        else expect(reachable).toContain(chosen);
      }),
    );
  });

  test("figures that do not change move a choice at most once, and noise of a tenth never brings it back", () => {
    const noise = fc.array(fc.double({ min: 0.95, max: 1.05, noNaN: true }), { minLength: 30, maxLength: 30 });
    const known = fc.record({
      rttMs: fc.double({ min: 1, max: 500, noNaN: true }),
      rate: fc.double({ min: 1e4, max: 1e8, noNaN: true }),
    });
    fc.assert(
      fc.property(fc.tuple(known, known, known), traffic, noise, (found, kind, factors) => {
        let choice: CarrierChoice | null = null;
        const seen: (CarrierKind | undefined)[] = [];
        for (const [turn, factor] of factors.entries()) {
          const states = CARRIER_KINDS.map((carrier, at) => {
            const { rttMs, rate } = found[at] ?? { rttMs: 1, rate: 1 };
            const own = turn % 2 === at % 2 ? factor : 2 - factor;
            return up(carrier, { rttMs: rttMs * own, rate: rate * own });
          });
          ({ choice } = choose(kind, states, choice, turn * HOLD_MS));
          if (seen.at(-1) !== choice?.carrier) seen.push(choice?.carrier);
        }
        // To each carrier once at most: nothing is left and taken again.
        expect(new Set(seen).size).toBe(seen.length);
      }),
    );
  });
});
