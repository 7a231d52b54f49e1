/** Weights that rot unread: found by reading all of them again in a week, and never while something else needs the disk. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Scrubber } from "../src/agent/cache/scrubber.ts";
import type { Sha256Hex } from "../src/domain/ids.ts";
import type { Clock, Timer } from "../src/ports/clock.ts";
import { simLog } from "../src/sim/sim-log.ts";
import { type ChunkFolder, chunkFolder, fill, overwrite } from "./support/chunk-folder.ts";
import { type ChunkedModel, chunkedModel } from "./support/chunked-model.ts";

const MIB = 1024 * 1024;
const HOUR_MS = 3_600_000;
const WEEK_MS = 7 * 24 * HOUR_MS;

/** Time that passes when the test says so. Each wait of the scrubber is one timer; the reading in between is real. */
class HandClock implements Clock {
  nowMs = 0;
  #due: { readonly atMs: number; readonly fire: () => void } | null = null;
  #armed: () => void = () => undefined;

  monoMs(): number {
    return this.nowMs;
  }

  wallMs(): number {
    return this.nowMs;
  }

  setTimer(delayMs: number, fire: () => void): Timer {
    const due = { atMs: this.nowMs + delayMs, fire };
    this.#due = due;
    this.#armed();
    return {
      cancel: () => {
        if (this.#due === due) this.#due = null;
      },
    };
  }

  /** Resolves when somebody waits. */
  async waited(): Promise<void> {
    if (this.#due === null) {
      await new Promise<void>((resolve) => {
        this.#armed = resolve;
      });
    }
  }

  /** Goes on to the end of the wait, and to the next one. */
  async turn(): Promise<void> {
    await this.waited();
    const due = this.#due;
    if (due === null) return;
    this.#due = null;
    this.nowMs = due.atMs;
    due.fire();
    await this.waited();
  }
}

let on: ChunkFolder;
let clock: HandClock;
let isIdle: boolean;
/** Called when the scrubber has opened a model and is about to read. */
let onOpen: () => void;
let damaged: (readonly [Sha256Hex, readonly number[]])[];
let scrubber: Scrubber;
let models: readonly ChunkedModel[];

beforeEach(async () => {
  on = await chunkFolder();
  clock = new HandClock();
  isIdle = true;
  onOpen = () => undefined;
  damaged = [];
  const store = on.store();
  models = [chunkedModel([40 * MIB + 5], { chunkBytes: MIB }), chunkedModel([24 * MIB], { chunkBytes: MIB })];
  for (const [at, model] of models.entries()) {
    const weights = await on.open(model);
    // Of the second only every other chunk is here.
    await fill(weights, model, at === 0 ? undefined : Array.from({ length: 12 }, (_, chunk) => 2 * chunk));
    await weights.close();
  }
  scrubber = new Scrubber({
    clock,
    random: { fraction: () => 0, bytes: (count) => new Uint8Array(count) },
    log: simLog(() => undefined),
    models: () => store.list(),
    open: async (weightsSha256, signal) => {
      const model = models.find((one) => one.weightsSha256 === weightsSha256);
      const weights = model === undefined ? null : await store.open(model, { signal });
      onOpen();
      return weights;
    },
    isIdle: () => isIdle,
    onDamaged: (weightsSha256, chunks) => damaged.push([weightsSha256, chunks]),
  });
});
afterEach(async () => {
  await scrubber.stop();
  await on.close();
});

describe("a scrubber", () => {
  test("reads all that is here in less than a week, and tells and forgets what rotted", async () => {
    const [whole, partial] = models;
    if (whole === undefined || partial === undefined) return expect.fail("there are two models");
    await overwrite(on.firstFile(whole), 33 * MIB + 7, Buffer.from("rot"));
    await overwrite(on.firstFile(partial), 6 * MIB, Buffer.from("rot"));
    scrubber.start();
    await clock.waited();
    const allBytes = 40 * MIB + 5 + 12 * MIB;
    while (scrubber.scrubbedBytes < allBytes) await clock.turn();
    expect(scrubber.scrubbedBytes).toBe(allBytes);
    expect(new Map(damaged)).toEqual(
      new Map([
        [whole.weightsSha256, [33]],
        [partial.weightsSha256, [6]],
      ]),
    );
    // The last step's wait is still to come.
    while (scrubber.scrubbedBytes === allBytes) await clock.turn();
    // So little is read in steps of an hour.
    expect(clock.nowMs).toBeLessThanOrEqual(WEEK_MS * 1.05);
    expect(clock.nowMs).toBeGreaterThanOrEqual(3 * HOUR_MS);
    await scrubber.stop();
    expect((await on.open(whole)).have.has(33)).toBe(false);
    expect((await on.open(partial)).have.has(6)).toBe(false);
  });

  test("reads nothing while the node has something to do, and goes on afterwards", async () => {
    isIdle = false;
    scrubber.start();
    for (let turn = 0; turn < 20; turn++) await clock.turn();
    expect(scrubber.scrubbedBytes).toBe(0);
    isIdle = true;
    await clock.turn();
    expect(scrubber.scrubbedBytes).toBeGreaterThan(0);
  });

  test("stops a step that has begun when something comes first, and does that step again later", async () => {
    let stops = 0;
    onOpen = () => {
      stops += 1;
      scrubber.giveWay();
    };
    scrubber.start();
    await clock.waited();
    for (let turn = 0; turn < 3; turn++) await clock.turn();
    expect(stops).toBe(4);
    expect(scrubber.scrubbedBytes).toBe(0);
    onOpen = () => undefined;
    for (let turn = 0; turn < 5; turn++) await clock.turn();
    expect(scrubber.scrubbedBytes).toBe(52 * MIB + 5);
    expect(damaged).toEqual([]);
  });

  test("keeps to its rate, however much lies there", async () => {
    await scrubber.stop();
    const store = on.store();
    const slow = new Scrubber(
      {
        clock,
        random: { fraction: () => 0.99, bytes: (count) => new Uint8Array(count) },
        log: simLog(() => undefined),
        models: () => store.list(),
        open: async (weightsSha256, signal) => {
          const model = models.find((one) => one.weightsSha256 === weightsSha256);
          return model === undefined ? null : store.open(model, { signal });
        },
        isIdle: () => true,
        onDamaged: () => undefined,
      },
      { passMs: 1, bytesPerSecondMax: MIB },
    );
    slow.start();
    await clock.waited();
    for (let turn = 0; turn < 8; turn++) await clock.turn();
    await slow.stop();
    expect(slow.scrubbedBytes).toBeGreaterThan(50 * MIB);
    expect(slow.scrubbedBytes / (clock.nowMs / 1_000)).toBeLessThanOrEqual(MIB * 1.4);
  });
});
