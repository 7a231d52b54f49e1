/** The cloud desk over the real adapter and a real server: who is asked, who is left alone and for how long, and what is counted. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { SystemClock } from "../src/adapters/clock-system/system-clock.ts";
import { CloudDesk } from "../src/coordinator/cloud/cloud-desk.ts";
import { modelId } from "../src/domain/ids.ts";
import type { ProviderSpec } from "../src/domain/provider.ts";
import type { Clock } from "../src/ports/clock.ts";
import type { CloudEvent, CloudRequest } from "../src/ports/cloud.ts";
import { OPEN_MS_FIRST } from "../src/scheduler/retries/circuit-breaker.ts";
import { MemoryStore } from "../src/sim/store/memory-store.ts";
import { type HostileUpstream, says, startHostileUpstream, status, stream, WELL } from "./support/hostile-upstream.ts";
import { aModel, aSpec, CHAT, keptLog, openUpstreamLab, type UpstreamLab } from "./support/upstream-lab.ts";

/** The machine's clock, which a test can set forward. */
class ForwardClock implements Clock {
  readonly #clock = new SystemClock();
  aheadMs = 0;
  monoMs(): number {
    return this.#clock.monoMs() + this.aheadMs;
  }
  wallMs(): number {
    return this.#clock.wallMs() + this.aheadMs;
  }
  setTimer(delayMs: number, fire: () => void) {
    return this.#clock.setTimer(delayMs, fire);
  }
}

let server: HostileUpstream;
let lab: UpstreamLab;
let clock: ForwardClock;
let store: MemoryStore;
let desk: CloudDesk;
let logged: string[];
beforeEach(async () => {
  server = await startHostileUpstream();
  lab = openUpstreamLab();
  clock = new ForwardClock();
  store = new MemoryStore({ writeLatencyMs: 0 }, { clock });
  logged = [];
  desk = new CloudDesk({ providers: store.providers, upstream: lab.upstream, clock, log: keptLog(logged) });
  await desk.start();
});
afterEach(async () => {
  await lab.close();
  await server.stop();
});

const spec = (fields: Partial<ProviderSpec> = {}) => aSpec(server.baseUrl, fields);
const OURS = modelId("ours");
const request = (fields: Partial<CloudRequest> = {}): CloudRequest => ({
  providerId: "acme",
  modelId: OURS,
  form: CHAT,
  tokensMax: 64,
  firstTokenMsMax: 20_000,
  totalMsMax: 30_000,
  ...fields,
});

/** All events of a run up to its last. */
function ask(fields: Partial<CloudRequest> = {}): Promise<readonly CloudEvent[]> {
  return new Promise((resolve) => {
    const events: CloudEvent[] = [];
    desk.run(request(fields), (event) => {
      events.push(event);
      if (event.kind === "end" || event.kind === "failed") resolve(events);
    });
  });
}
const lastOf = async (fields: Partial<CloudRequest> = {}) => (await ask(fields)).at(-1);
const health = () => desk.get("acme")?.health;

describe("offers", () => {
  test("are the providers that have the model, enabled ones first, then by id", async () => {
    for (const [providerId, isEnabled] of [
      ["zeta", true],
      ["beta", false],
      ["acme", true],
    ] as const) {
      expect((await desk.put(spec({ providerId, isEnabled }))).ok).toBe(true);
    }
    await desk.put(spec({ providerId: "other", models: [] }));
    expect(desk.offers(OURS).map((offer) => offer.spec.providerId)).toEqual(["acme", "zeta", "beta"]);
    expect(desk.list().map((view) => view.spec.providerId)).toEqual(["acme", "beta", "other", "zeta"]);
    expect(desk.offers(modelId("unknown"))).toEqual([]);
  });

  test("leave out a model that the provider just said it does not have, for a while", async () => {
    await desk.put(spec());
    server.act(status(404, { error: { message: "no such model" } }));
    expect(await lastOf()).toMatchObject({ kind: "failed", failure: "unknown-model" });
    expect(desk.offers(OURS)).toEqual([]);
    expect(health()?.breaker).toBe("closed");
    clock.aheadMs += 60_001;
    expect(desk.offers(OURS)).toHaveLength(1);
  });

  test("are there again after a restart, and a removed one is not", async () => {
    await desk.put(spec());
    await desk.put(spec({ providerId: "gone" }));
    expect(await desk.remove("gone")).toBe(true);
    expect(await desk.remove("gone")).toBe(false);
    const again = new CloudDesk({ providers: store.providers, upstream: lab.upstream, clock, log: keptLog([]) });
    await again.start();
    expect(again.list().map((view) => view.spec)).toEqual([spec()]);
  });

  test("an address where nothing may be sent is refused and not kept", async () => {
    const refused = await desk.put(spec({ baseUrl: "http://api.example.com/v1" }));
    expect(refused).toMatchObject({ ok: false, reason: { code: "invalid-request", param: "baseUrl" } });
    expect(await store.providers.list()).toEqual([]);
  });
});

describe("runs", () => {
  test("pass the provider's answer on, and are counted with what they cost us", async () => {
    await desk.put(spec());
    server.act(WELL);
    const events = await ask();
    expect(events.map(({ kind }) => kind)).toEqual(["opened", "text", "text", "choice-end", "end"]);
    // 7 prompt tokens at 1 and 2 output tokens at 2 USD per million.
    expect(desk.numbersOf("acme")).toMatchObject({
      succeeded: 1,
      promptTokens: 7,
      outputTokens: 2,
      costMicroUsd: 11,
      running: 0,
    });
    expect(health()?.firstTokenMsP50).toBeGreaterThan(0);
  });

  test("what broke in the middle is counted as far as it came, and a message in the log holds no word of the answer", async () => {
    await desk.put(spec());
    server.act(stream([says({ content: "forty characters of a secret answer here" })], { done: false }));
    expect(await lastOf()).toMatchObject({ failure: "cut" });
    expect(desk.numbersOf("acme")).toMatchObject({ succeeded: 0, outputTokens: 10 });
    expect(desk.numbersOf("acme").failed).toEqual(new Map([["cut", 1]]));
    expect(logged.join("")).toContain("cloud request failed");
    expect(logged.join("")).not.toContain("secret answer");
  });

  test("of an unknown, a disabled or a changed provider fail at once, and nothing is sent", async () => {
    await desk.put(spec({ isEnabled: false }));
    for (const fields of [{}, { providerId: "nobody" }, { modelId: modelId("other") }]) {
      expect(await lastOf(fields)).toMatchObject({ kind: "failed", failure: "unknown-model" });
    }
    expect(server.asked).toEqual([]);
  });

  test("no event comes before the run is in the caller's hand, and none after he cancelled it", async () => {
    await desk.put(spec({ isEnabled: false }));
    const kinds: string[] = [];
    const run = desk.run(request(), ({ kind }) => kinds.push(kind));
    run.cancel();
    run.cancel();
    await desk.change("acme", (now) => ({ ...now, isEnabled: true }));
    server.act((response) => void response.writeHead(200, { "content-type": "text/event-stream" }).flushHeaders());
    const opened = new Promise<void>((resolve) => {
      const second = desk.run(request(), ({ kind }) => {
        kinds.push(kind);
        second.cancel();
        second.cancel();
        resolve();
      });
    });
    await opened;
    expect(kinds).toEqual(["opened"]);
    expect(desk.numbersOf("acme")).toMatchObject({ cancelled: 1, running: 0 });
  });
});

describe("a provider that fails", () => {
  test("is left alone after three failures, tried once when its time is over, and trusted again when that went well", async () => {
    await desk.put(spec());
    server.act(status(500, "broken"));
    for (let count = 0; count < 3; count++) {
      expect(health()?.breaker).toBe("closed");
      expect(await lastOf()).toMatchObject({ failure: "overloaded" });
    }
    expect(health()).toMatchObject({ breaker: "open", freeSlots: 0 });
    expect(health()?.lastFailure).toContain("500");
    expect(health()?.opensAgainAtMs).toBeGreaterThan(clock.wallMs());
    const asked = server.asked.length;
    const refused = await lastOf();
    expect(refused).toMatchObject({ failure: "overloaded", message: expect.stringContaining("left alone") });
    expect(server.asked).toHaveLength(asked);
    clock.aheadMs += OPEN_MS_FIRST;
    expect(health()).toMatchObject({ breaker: "half-open", freeSlots: 1 });
    server.act(WELL);
    const [first, second] = await Promise.all([lastOf(), lastOf()]);
    expect(first).toMatchObject({ kind: "end" });
    expect(second).toMatchObject({ kind: "failed", failure: "overloaded" });
    expect(health()).toMatchObject({ breaker: "closed", lastFailure: null });
    const told = logged.map((line) => JSON.parse(line)).filter(({ level }) => level !== "debug");
    expect(told).toEqual([
      {
        level: "warn",
        event: "cloud provider left alone",
        providerId: "acme",
        failure: "overloaded",
        retryAfterMs: null,
      },
      { level: "info", event: "cloud provider back", providerId: "acme" },
    ]);
  });

  test("what a request did wrong itself does not count against the provider", async () => {
    await desk.put(spec());
    server.act(status(400, { error: { message: "bad" } }));
    for (let count = 0; count < 5; count++) expect(await lastOf()).toMatchObject({ failure: "rejected" });
    expect(health()?.breaker).toBe("closed");
  });

  test("is not blamed for a caller in a hurry, and is for its own silence", async () => {
    await desk.put(spec());
    server.act(() => undefined);
    for (let count = 0; count < 4; count++)
      expect(await lastOf({ firstTokenMsMax: 5 })).toMatchObject({ failure: "too-slow" });
    expect(health()?.breaker).toBe("closed");
    for (let count = 0; count < 3; count++) {
      const late = lastOf({ firstTokenMsMax: 20 });
      clock.aheadMs += 5_000;
      expect(await late).toMatchObject({ failure: "too-slow" });
    }
    expect(health()?.breaker).toBe("open");
  });

  test("a wrong key keeps everybody away at once; another key or address gives it a new chance", async () => {
    await desk.put(spec());
    server.act(status(401, {}));
    expect(await lastOf()).toMatchObject({ failure: "unauthorised" });
    expect(health()?.breaker).toBe("open");
    await desk.put(spec({ regions: ["us"] }));
    expect(health()?.breaker).toBe("open");
    await desk.put(spec({ credential: null }));
    expect(health()?.breaker).toBe("closed");
  });

  test("without its key on this machine it is not asked", async () => {
    await desk.put(spec({ credential: { kind: "secret", name: "absent" } }));
    expect(health()?.hasCredential).toBe(false);
    expect(await lastOf()).toMatchObject({ failure: "unauthorised" });
    expect(server.asked).toEqual([]);
  });
});

describe("limits", () => {
  test("a provider that says how long to wait is asked again then", async () => {
    await desk.put(spec());
    server.act(status(429, { error: { message: "slow down" } }, { "retry-after": "2" }));
    expect(await lastOf()).toMatchObject({ failure: "rate-limited", retryAfterMs: 2_000 });
    expect(health()).toMatchObject({ freeSlots: 0, breaker: "closed" });
    server.act(WELL);
    const refused = await lastOf();
    expect(refused).toMatchObject({ failure: "rate-limited" });
    expect(server.asked).toHaveLength(1);
    clock.aheadMs += 2_000;
    expect(await lastOf()).toMatchObject({ kind: "end" });
  });

  test("our own requests per minute hold what is too much back before it is sent", async () => {
    await desk.put(spec({ requestsPerMinuteMax: 2 }));
    server.act(WELL);
    const ends = [await lastOf(), await lastOf(), await lastOf()].map((end) => end?.kind);
    expect(ends).toEqual(["end", "end", "failed"]);
    expect(server.asked).toHaveLength(2);
    clock.aheadMs += 30_000;
    expect(await lastOf()).toMatchObject({ kind: "end" });
  });

  test("a request that is larger than the limit of tokens can never go and says so", async () => {
    await desk.put(spec({ tokensPerMinuteMax: 50 }));
    expect(await lastOf()).toMatchObject({ failure: "rejected", message: expect.stringContaining("its limit is 50") });
  });

  test("no more run at once than it takes", async () => {
    await desk.put(spec({ concurrencyMax: 2 }));
    const held: (() => void)[] = [];
    server.act(async (response, asked, ended) => {
      await new Promise<void>((resolve) => held.push(resolve));
      return WELL(response, asked, ended);
    });
    const running = [ask(), ask()];
    expect(await lastOf()).toMatchObject({ failure: "rate-limited" });
    expect(health()?.freeSlots).toBe(0);
    while (held.length < 2) await new Promise((resolve) => setImmediate(resolve));
    for (const release of held) release();
    expect((await Promise.all(running)).map((events) => events.at(-1)?.kind)).toEqual(["end", "end"]);
    expect(health()?.freeSlots).toBe(2);
  });

  test("what the provider's headers leave is not exceeded", async () => {
    await desk.put(spec());
    const headers = { "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "10s" };
    server.act(stream([says({ content: "x" }, { finish: "stop" })], { headers }));
    expect(await lastOf()).toMatchObject({ kind: "end" });
    expect(health()?.freeSlots).toBe(0);
    expect(await lastOf()).toMatchObject({ failure: "rate-limited" });
    clock.aheadMs += 10_000;
    expect(health()?.freeSlots).toBe(8);
  });
});

test("abilities found by probing stay with the model until its name there or its address changes", async () => {
  await desk.put(spec());
  const { abilities } = aModel({ tools: false });
  if (abilities === null) throw new Error("the sample is probed");
  await desk.setAbilities("acme", { model: aModel(), abilities });
  expect(desk.offers(OURS)[0]?.model.abilities).toEqual(abilities);
  expect((await store.providers.get("acme"))?.models[0]?.abilities).toEqual(abilities);
  await desk.put(spec({ models: [{ ...aModel(), upstreamModel: "newer" }] }));
  await desk.setAbilities("acme", { model: aModel(), abilities });
  expect(desk.offers(OURS)[0]?.model.abilities).toBeNull();
});
