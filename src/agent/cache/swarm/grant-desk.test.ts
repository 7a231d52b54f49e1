import { beforeEach, describe, expect, test } from "vitest";
import { toHex } from "../../../domain/hex.ts";
import { nodeId, sha256Hex } from "../../../domain/ids.ts";
import { type FetchGrant, GRANT_CLOCK_SLACK_MS, GRANT_TTL_MS } from "../../../domain/peer.ts";
import { simCrypto } from "../../../sim/sim-crypto.ts";
import { SimClock } from "../../../sim/time/clock.ts";
import { Host } from "../../../sim/time/host.ts";
import { SeededRandom } from "../../../sim/time/random.ts";
import { Timeline } from "../../../sim/time/timeline.ts";
import type { Welcome } from "../../../wire/agent-link.ts";
import { grantJson, grantSigningText } from "../../../wire/fetch-grant.ts";
import { CoordinatorLine } from "./coordinator-line.ts";
import { GrantDesk } from "./grant-desk.ts";

const GRID_ID = "grid-grants";
/** The coordinator's clock is an hour ahead of this machine's. */
const AHEAD_MS = 3_600_000;
const WEIGHTS = sha256Hex("ab".repeat(32));
const crypto = simCrypto(new SeededRandom("grants"));
const [grid, other, holder, fetcher] = [0, 1, 2, 3].map(() => crypto.generateKeyPair());
const keyHex = (pair: typeof grid) => toHex(pair?.publicKey ?? new Uint8Array(0));

let timeline: Timeline;
let clock: SimClock;
let line: CoordinatorLine;
let desk: GrantDesk;
let count = 0;

beforeEach(() => {
  timeline = new Timeline();
  clock = new SimClock(new Host("holder", timeline));
  start();
});

/** The holder's process begins, and is let into its grid. */
function start(): void {
  line = new CoordinatorLine(clock);
  if (holder === undefined) throw new Error("four keys were made");
  desk = new GrantDesk({ crypto, line, gridId: () => line.gridId }, holder);
  welcomed();
}

function welcomed(): void {
  if (holder === undefined) throw new Error("four keys were made");
  const welcome: Welcome = {
    type: "welcome",
    nodeId: "node_00000000000000000000000000000000",
    boot: 1,
    heartbeatMs: 1_000,
    sessionToken: "s".repeat(32),
    coordinatorTimeMs: clock.wallMs() + AHEAD_MS,
    gridPublicKey: keyHex(grid),
  };
  line.up({
    gridId: GRID_ID,
    nodeId: nodeId("node_00000000000000000000000000000000"),
    welcome,
    keyPair: holder,
    send: () => undefined,
    bufferedBytes: () => 0,
  });
}

function credential(change: Partial<FetchGrant> = {}, signer = grid): string {
  const nowMs = clock.wallMs() + AHEAD_MS;
  const grant: FetchGrant = {
    version: 1,
    grantId: (++count).toString(16).padStart(32, "0"),
    gridId: GRID_ID,
    weightsSha256: WEIGHTS,
    fetcherKeyHex: keyHex(fetcher),
    holderKeyHex: keyHex(holder),
    issuedAtMs: nowMs,
    expiresAtMs: nowMs + GRANT_TTL_MS,
    ...change,
  };
  const json = grantJson(grant);
  const signature = signer?.sign(new TextEncoder().encode(grantSigningText(json))) ?? new Uint8Array(0);
  return JSON.stringify({ grantJson: json, signature: toHex(signature) });
}

const messageOf = (text: string, peer = fetcher) => {
  const admission = desk.admit(text, keyHex(peer));
  return admission.ok ? "admitted" : admission.reason.message;
};

describe("a grant", () => {
  test("that fits lets its fetcher read its weights, and nobody else, and nothing else", () => {
    expect(messageOf(credential())).toBe("admitted");
    expect(desk.mayRead(keyHex(fetcher), WEIGHTS)).toBe(true);
    expect(desk.mayRead(keyHex(other), WEIGHTS)).toBe(false);
    expect(desk.mayRead(keyHex(fetcher), "cd".repeat(32))).toBe(false);
  });

  test("is taken once", () => {
    const text = credential();
    expect(messageOf(text)).toBe("admitted");
    expect(messageOf(text)).toMatch(/was taken before/);
  });

  test("is taken once over a restart of its holder too: one from before it is refused, and a fresh one is not", async () => {
    const [taken, unused] = [credential(), credential()];
    expect(messageOf(taken)).toBe("admitted");
    await timeline.run(timeline.nowMs + 1_000, () => true);
    start();
    expect(messageOf(taken)).toMatch(/before this node's start/);
    expect(messageOf(unused)).toMatch(/before this node's start/);
    expect(messageOf(credential())).toBe("admitted");
  });

  test("from before another link of the same process is taken: the coordinator may have been away", async () => {
    const early = credential();
    await timeline.run(timeline.nowMs + 1_000, () => true);
    welcomed();
    expect(messageOf(early)).toBe("admitted");
    expect(messageOf(early)).toMatch(/was taken before/);
  });

  test("of another signer, changed, or no grant at all is refused", () => {
    expect(messageOf(credential({}, other))).toMatch(/did not sign/);
    expect(messageOf(credential().replace("ab", "ac"))).toMatch(/did not sign|is no grant/);
    for (const text of ["", "{}", "null", '{"grantJson":"{}","signature":"00"}', "x".repeat(5_000)]) {
      expect(messageOf(text)).toMatch(/grant/);
    }
  });

  test.each([
    ["of another grid", { gridId: "grid-foreign" }, /is of the grid grid-foreign/],
    ["for another fetcher", { fetcherKeyHex: "11".repeat(32) }, /is for 1111/],
    ["for another holder", { holderKeyHex: "22".repeat(32) }, /not to this node/],
    ["that lasts too long", { expiresAtMs: 2 ** 50 }, /lasts longer/],
    ["of times long past", { issuedAtMs: 0, expiresAtMs: GRANT_TTL_MS }, /expired \d+ ms ago/],
  ] as const)("%s is refused by name", (_, change, message) => {
    expect(messageOf(credential(change))).toMatch(message);
  });

  test("ends by the coordinator's clock, with some slack, and its rights with it", async () => {
    const early = credential();
    const late = credential();
    expect(messageOf(early)).toBe("admitted");
    await timeline.run(timeline.nowMs + GRANT_TTL_MS + GRANT_CLOCK_SLACK_MS - 1, () => true);
    expect(desk.mayRead(keyHex(fetcher), WEIGHTS)).toBe(true);
    await timeline.run(timeline.nowMs + 2, () => true);
    expect(desk.mayRead(keyHex(fetcher), WEIGHTS)).toBe(false);
    expect(messageOf(late)).toMatch(/expired/);
  });

  test("from the future is refused: a clock is off", () => {
    const nowMs = clock.wallMs() + AHEAD_MS + 10 * 60_000;
    expect(messageOf(credential({ issuedAtMs: nowMs, expiresAtMs: nowMs + 1_000 }))).toMatch(/begins in/);
  });
});
