/** Links between nodes over carriers in memory, in virtual time: messages and bulk, cuts and silences, rights, bounds. */
import { afterEach, describe, expect, test } from "vitest";
import { LINK_BUFFER_BYTES, UNREACHABLE_MS } from "../src/agent/peering/link-bounds.ts";
import { FallowError } from "../src/domain/fault.ts";
import type { CarrierKind } from "../src/domain/peer.ts";
import type { PeerLink } from "../src/ports/peer-link.ts";
import { HOLD_MS } from "../src/scheduler/network/choose-carrier.ts";
import { contents, fetchAll, GOOD, type PeerPair, peerPair } from "./support/peer-pair.ts";

const MIB = 1024 * 1024;
const signal = () => new AbortController().signal;
const open: PeerPair[] = [];

async function started(
  kinds?: readonly CarrierKind[],
  delayMs: Partial<Record<CarrierKind, number>> = {},
): Promise<{ pair: PeerPair; link: PeerLink }> {
  const pair = await peerPair(kinds, delayMs);
  open.push(pair);
  return { pair, link: await pair.settled(pair.near.connect(pair.target, GOOD, signal())) };
}

async function codeOf(promise: Promise<unknown>): Promise<string> {
  const fault = await promise.then(
    () => "no fault",
    (caught: unknown) => caught,
  );
  return fault instanceof FallowError ? fault.code : String(fault);
}

afterEach(async () => {
  for (const pair of open.splice(0)) await pair.stop();
});

describe("a link", () => {
  test("carries bytes as they are, over several connections", async () => {
    const { pair, link } = await started();
    const bytes = await pair.settled(fetchAll(link, `${20 * MIB} a`, { totalBytes: 20 * MIB }));
    expect(Buffer.from(bytes).equals(contents(0, 20 * MIB))).toBe(true);
    expect(pair.net.dialled.tcp).toBeGreaterThan(2);
  });

  test("asks the serving node once for a fetch, and lets it close the answer", async () => {
    const { pair, link } = await started();
    await pair.settled(fetchAll(link, `${4 * MIB} a`, { totalBytes: 4 * MIB }));
    expect(pair.asked).toEqual([`${4 * MIB} a`]);
    await pair.until(() => pair.answersClosed() === 1);
  });

  test("messages that were sent while its only connection was silent come when that answers again", async () => {
    const { pair, link } = await started();
    await pair.settled(link.send(Buffer.from("before")));
    await pair.pass(500);
    pair.net.silence("tcp");
    pair.net.shut("tcp");
    void link.send(Buffer.from("lost on the way"));
    await pair.pass(1_500);
    void link.send(Buffer.from("sent into nothing"));
    await pair.pass(500);
    pair.net.reopen("tcp");
    void link.send(Buffer.from("after"));
    await pair.until(() => pair.farMessages.length === 4);
    expect(pair.farMessages).toEqual(["before", "lost on the way", "sent into nothing", "after"]);
  });

  test("carries messages in order, each once, both ways", async () => {
    const { pair, link } = await started();
    const numbers = Array.from({ length: 300 }, (_, index) => String(index));
    await pair.settled(Promise.all(numbers.map((text) => link.send(Buffer.from(text)))));
    await pair.until(() => pair.farMessages.length === 300);
    expect(pair.farMessages).toEqual(numbers);
    await pair.settled(
      pair.far.open(pair.nearKeyHex)?.send(Buffer.from("back")) ?? Promise.reject(new Error("no link")),
    );
    await pair.until(() => pair.nearMessages.length === 1);
  });

  test("is one for each node, and a further credential is shown over it", async () => {
    const { pair, link } = await started();
    expect(await pair.settled(pair.near.connect(pair.target, GOOD, signal()))).toBe(link);
    expect(await pair.settled(codeOf(pair.near.connect(pair.target, "wrong", signal())))).toBe("peer-refused");
    expect(pair.near.open(pair.target.publicKeyHex)).toBe(link);
  });

  test("says what it measured", async () => {
    const { pair, link } = await started();
    await pair.settled(fetchAll(link, `${8 * MIB} a`, { totalBytes: 8 * MIB }));
    await pair.pass(2_000);
    const [first] = pair.near.qualities();
    expect(first?.peerKeyHex).toBe(pair.target.publicKeyHex);
    expect(first?.quality.rttMs).toBeGreaterThanOrEqual(40);
    expect(first?.quality.rttMs).toBeLessThan(45);
    expect(first?.quality.bytesPerSecond).toBeGreaterThan(MIB);
  });

  test("ends for both when one ends it, with the reason", async () => {
    const { pair, link } = await started();
    const other = pair.far.open(pair.nearKeyHex);
    link.close("enough");
    expect(await pair.settled(other?.closed ?? Promise.resolve(""))).toBe("enough");
    expect(await link.closed).toBe("enough");
    expect(pair.far.open(pair.nearKeyHex)).toBeNull();
    expect(await codeOf(link.send(new Uint8Array(1)))).toBe("peer-unreachable");
  });
});

describe("rights", () => {
  test("a wrong credential opens nothing, and says why", async () => {
    const pair = await peerPair();
    open.push(pair);
    const fault = await pair.settled(
      pair.near.connect(pair.target, "wrong", signal()).catch((caught: unknown) => caught),
    );
    expect(fault).toMatchObject({ code: "peer-refused", data: { code: "invalid-key" } });
    expect(pair.far.open(pair.nearKeyHex)).toBeNull();
    expect(pair.far.breaches().refused).toBe(1);
  });

  test("what is refused for a request comes to the fetch, and the link stays", async () => {
    const { pair, link } = await started();
    const fault = await pair.settled(fetchAll(link, "secret", { totalBytes: 100 }).catch((caught: unknown) => caught));
    expect(fault).toMatchObject({ code: "peer-refused", data: { code: "insufficient-scope" } });
    expect(await pair.settled(fetchAll(link, "100 a", { totalBytes: 100 }))).toHaveLength(100);
  });

  test("an answer of another length is refused", async () => {
    const { pair, link } = await started();
    expect(await pair.settled(codeOf(fetchAll(link, "100 a", { totalBytes: 101 })))).toBe("peer-refused");
  });

  test("who only accepted the link may not fetch without a credential of its own", async () => {
    const { pair } = await started();
    const back = pair.far.open(pair.nearKeyHex);
    if (back === null) throw new Error("the far end has the link");
    expect(await pair.settled(codeOf(fetchAll(back, "10 a", { totalBytes: 10 })))).toBe("peer-refused");
  });

  test("a right that ran out fetches nothing until it is renewed", async () => {
    const { pair, link } = await started();
    pair.clock.stepWall(600_001);
    expect(await pair.settled(codeOf(fetchAll(link, "10 a", { totalBytes: 10 })))).toBe("peer-refused");
    await pair.settled(link.present(GOOD, signal()));
    expect(await pair.settled(fetchAll(link, "10 a", { totalBytes: 10 }))).toHaveLength(10);
  });
});

describe("a cut", () => {
  test("of every connection in mid-transfer loses no byte and costs less than two seconds", async () => {
    const undisturbed = await started();
    const startMs = undisturbed.pair.nowMs();
    await undisturbed.pair.settled(fetchAll(undisturbed.link, `${20 * MIB} a`, { totalBytes: 20 * MIB }));
    const plainMs = undisturbed.pair.nowMs() - startMs;

    const { pair, link } = await started();
    const cutStartMs = pair.nowMs();
    let cuts = 0;
    const bytes = await pair.settled(
      fetchAll(link, `${20 * MIB} a`, { totalBytes: 20 * MIB }, (received) => {
        if (received > (cuts + 1) * 5 * MIB) {
          cuts++;
          pair.net.cut("tcp");
        }
      }),
    );
    expect(cuts).toBe(3);
    expect(Buffer.from(bytes).equals(contents(0, 20 * MIB))).toBe(true);
    expect(pair.nowMs() - cutStartMs - plainMs).toBeLessThan(3 * 2_000);
  });

  test("moves the link to the next carrier when the first stays away, and back when it returns", async () => {
    const { pair, link } = await started(["tcp", "relay"]);
    expect(link.carrier()).toBe("tcp");
    pair.net.shut("tcp");
    pair.net.cut("tcp");
    await pair.until(() => link.carrier() === "relay");
    await pair.settled(fetchAll(link, `${MIB} a`, { totalBytes: MIB }));
    pair.net.reopen("tcp");
    await pair.until(() => link.carrier() === "tcp");
    await pair.until(() => pair.net.count("relay") === 0);
  });

  test("that nobody tells of is noticed, and costs less than two seconds", async () => {
    const { pair, link } = await started(["tcp", "relay"]);
    let silencedAtMs = 0;
    let nextAtMs = 0;
    const bytes = await pair.settled(
      fetchAll(link, `${16 * MIB} a`, { totalBytes: 16 * MIB }, (received) => {
        if (silencedAtMs === 0 && received > 4 * MIB) {
          silencedAtMs = pair.nowMs();
          pair.net.silence("tcp");
        } else if (silencedAtMs > 0 && nextAtMs === 0 && pair.nowMs() > silencedAtMs + 500) nextAtMs = pair.nowMs();
      }),
    );
    expect(Buffer.from(bytes).equals(contents(0, 16 * MIB))).toBe(true);
    expect(nextAtMs - silencedAtMs).toBeLessThan(2_000);
    expect(link.carrier()).toBe("relay");
  });

  test("loses no message and repeats none", async () => {
    const { pair, link } = await started(["tcp", "udp"]);
    for (let index = 0; index < 100; index++) {
      await pair.settled(link.send(Buffer.from(String(index))));
      if (index % 20 === 10) pair.net.cut("tcp");
      await pair.pass(7);
    }
    await pair.until(() => pair.farMessages.length >= 100);
    await pair.pass(1_000);
    expect(pair.farMessages).toEqual(Array.from({ length: 100 }, (_, index) => String(index)));
  });

  test("of all carriers ends the link and its fetches after the bound", async () => {
    const { pair, link } = await started();
    const fetching = codeOf(fetchAll(link, `${50 * MIB} a`, { totalBytes: 50 * MIB }));
    await pair.pass(300);
    pair.net.shut("tcp");
    pair.net.cut("tcp");
    const cutAtMs = pair.nowMs();
    expect(await pair.settled(fetching)).toBe("peer-unreachable");
    expect(pair.nowMs() - cutAtMs).toBeLessThan(UNREACHABLE_MS + 2_000);
    await pair.pass(UNREACHABLE_MS + 2_000);
    expect(pair.far.open(pair.nearKeyHex)).toBeNull();
  });
});

describe("carriers", () => {
  test("that is over costs who asks for the link no wait: it is opened anew, at once", async () => {
    const { pair, link } = await started(["tcp"]);
    pair.net.shut("tcp");
    pair.net.cut("tcp");
    // By then the link's own next try is seconds away.
    await pair.pass(5_000);
    pair.net.reopen("tcp");
    const startMs = pair.nowMs();
    const anew = await pair.settled(pair.near.connect(pair.target, GOOD, signal()));
    expect(pair.nowMs() - startMs).toBeLessThan(200);
    void anew.send(Buffer.from("after"));
    await pair.until(() => pair.farMessages.length === 1);
    expect(pair.near.open(pair.target.publicKeyHex)).toBe(anew);
    expect(await link.closed).toContain("new link");
  });

  test("that is not over leaves the link to its own tries when a new one does not open either", async () => {
    const { pair, link } = await started(["tcp"]);
    pair.net.shut("tcp");
    pair.net.cut("tcp");
    await pair.pass(1_000);
    expect(await codeOf(pair.settled(pair.near.connect(pair.target, GOOD, signal())))).toBe("peer-unreachable");
    void link.send(Buffer.from("after"));
    pair.net.reopen("tcp");
    await pair.until(() => pair.farMessages.length === 1);
    expect(pair.near.open(pair.target.publicKeyHex)).toBe(link);
  });

  test("the relay opens the link when nothing else answers", async () => {
    const pair = await peerPair(["tcp", "udp", "relay"]);
    open.push(pair);
    pair.net.shut("tcp");
    pair.net.silence("udp");
    const link = await pair.settled(pair.near.connect(pair.target, GOOD, signal()));
    expect(link.carrier()).toBe("relay");
    expect(pair.nowMs()).toBeLessThan(1_500);
  });

  test("a node that no carrier reaches is unreachable, and says what was tried", async () => {
    const pair = await peerPair(["tcp", "relay"]);
    open.push(pair);
    pair.net.shut("tcp");
    pair.net.shut("relay");
    const fault = await pair.settled(pair.near.connect(pair.target, GOOD, signal()).catch((caught: unknown) => caught));
    expect(fault).toMatchObject({ code: "peer-unreachable" });
    expect(String(fault)).toMatch(/tcp.*relay/);
  });

  test("a node that cannot be dialled is met over the link that it opened", async () => {
    const { pair } = await started();
    const nearTarget = { ...pair.target, publicKeyHex: pair.nearKeyHex };
    pair.net.shut("tcp");
    const fault = await pair.settled(pair.far.connect(nearTarget, "any", signal()).catch((caught: unknown) => caught));
    // The near end lets nobody in, and it was asked: so the far end met it.
    expect(fault).toMatchObject({ code: "peer-refused", data: { code: "invalid-key" } });
  });

  test("over the relay alone messages go ahead of bulk", async () => {
    const { pair, link } = await started(["relay"]);
    const ending = new AbortController();
    const fetching = codeOf(fetchAll(link, `${500 * MIB} a`, { totalBytes: 500 * MIB, signal: ending.signal }));
    await pair.pass(3_000);
    const startMs = pair.nowMs();
    await pair.settled(link.send(Buffer.from("now")));
    await pair.until(() => pair.farMessages.length === 1);
    expect(pair.nowMs() - startMs).toBeLessThan(60);
    expect(pair.net.count("relay")).toBe(1);
    ending.abort(new Error("enough"));
    expect(await pair.settled(fetching)).toBe("cancelled");
  });

  test("UDP joins for bulk on a far way", async () => {
    const { pair, link } = await started(["tcp", "udp"]);
    await pair.settled(fetchAll(link, `${20 * MIB} a`, { totalBytes: 20 * MIB }));
    expect(pair.net.dialled.udp).toBeGreaterThan(0);
  });

  test("a carrier that falls silent is left for the spare, within the bound on silence", async () => {
    const { pair, link } = await started(["tcp", "udp", "relay"]);
    let silencedAtMs = 0;
    let nextAtMs = 0;
    await pair.settled(
      fetchAll(link, `${24 * MIB} a`, { totalBytes: 24 * MIB }, (received) => {
        if (silencedAtMs === 0 && received > 8 * MIB) {
          silencedAtMs = pair.nowMs();
          pair.net.silence("tcp");
        } else if (silencedAtMs > 0 && nextAtMs === 0 && pair.nowMs() > silencedAtMs + 400) nextAtMs = pair.nowMs();
      }),
    );
    expect(nextAtMs - silencedAtMs).toBeLessThan(1_300);
    expect(link.carrier()).toBe("udp");
    expect(pair.net.dialled.relay).toBe(0);
  });

  test("messages move to the carrier with the shorter round trip, and not back", async () => {
    const { pair, link } = await started(["tcp", "udp"], { tcp: 60 });
    expect(link.carrier()).toBe("tcp");
    const ending = new AbortController();
    const busy = codeOf(fetchAll(link, `${9_000 * MIB} a`, { totalBytes: 9_000 * MIB, signal: ending.signal }));
    await pair.pass(HOLD_MS / 2);
    expect(link.carrier()).toBe("tcp");
    await pair.until(() => link.carrier() === "udp");
    for (let second = 0; second < 20; second++) {
      await pair.pass(1_000);
      expect(link.carrier()).toBe("udp");
    }
    ending.abort(new Error("enough"));
    await pair.settled(busy);
  });

  test("bulk connections end when nothing moves", async () => {
    const { pair, link } = await started();
    await pair.settled(fetchAll(link, `${20 * MIB} a`, { totalBytes: 20 * MIB }));
    expect(pair.net.count("tcp")).toBeGreaterThan(3);
    await pair.pass(60_000);
    expect(pair.net.count("tcp")).toBeLessThan(5);
  });
});

describe("bounds", () => {
  test("a reader that takes nothing is sent no more than the window, whatever it asked for", async () => {
    const { pair, link } = await started();
    const readers = Array.from({ length: 8 }, (_, index) => {
      const options = { signal: signal(), totalBytes: 1_000 * MIB, bytesPerSecondMin: 1 };
      return link.fetch(Buffer.from(`${1_000 * MIB} ${index}`), options)[Symbol.asyncIterator]();
    });
    await pair.settled(Promise.all(readers.map((reader) => reader.next())));
    await pair.pass(20_000);
    expect(pair.readBytes()).toBeLessThanOrEqual(LINK_BUFFER_BYTES + 8 * 256 * 1024);
    await pair.settled(Promise.all(readers.map((reader) => reader.return?.())));
  });

  test("a fetch that is given up is sent no more, and the link goes on", async () => {
    const { pair, link } = await started();
    const ending = new AbortController();
    const fetching = codeOf(
      fetchAll(link, `${500 * MIB} a`, { totalBytes: 500 * MIB, signal: ending.signal }, (received) => {
        if (received > 2 * MIB) ending.abort(new Error("enough"));
      }),
    );
    expect(await pair.settled(fetching)).toBe("cancelled");
    await pair.pass(500);
    const readBytes = pair.readBytes();
    await pair.pass(5_000);
    expect(pair.readBytes()).toBe(readBytes);
    expect(await pair.settled(fetchAll(link, "100 b", { totalBytes: 100 }))).toHaveLength(100);
  });
});
