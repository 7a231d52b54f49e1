/** Coordinators that are killed while they lease: what they were told is durable is there, and no slot is leased twice. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openPostgresStore, openSqliteStore } from "../src/adapters/store-sql/sql-store.ts";
import type { Store } from "../src/ports/store.ts";
import { KILL_NODES, KILL_SLOTS } from "./support/lease-writer.ts";
import { postgresAbsent, startPostgres, type TestPostgres } from "./support/postgres.ts";
import { expectSlotsRight, offers } from "./support/store-contract-leases.ts";

const ROUNDS = 5;
const NUMBERS_PER_ROUND = 1_000_000;
const TEST_MS_MAX = 180_000;

interface Told {
  readonly granted: Map<string, number>;
  readonly ended: Set<string>;
  /** Asked to end, perhaps not done. */
  readonly ending: Set<string>;
}

/** Runs a writer until it has said `lines` lines, then kills it with SIGKILL. */
async function killedWriter(options: { arguments: readonly string[]; lines: number }): Promise<readonly string[]> {
  const path = fileURLToPath(new URL("./support/lease-writer.ts", import.meta.url));
  const child = spawn(process.execPath, [path, ...options.arguments], { stdio: ["ignore", "pipe", "inherit"] });
  const lines: string[] = [];
  let rest = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    const parts = (rest + text).split("\n");
    rest = parts.pop() ?? "";
    lines.push(...parts);
    if (lines.length >= options.lines) child.kill("SIGKILL");
  });
  await once(child, "close");
  return lines;
}

function take(told: Told, lines: readonly string[]): void {
  for (const line of lines) {
    const [what = "", leaseId = "", epoch] = line.split(" ");
    if (what === "granted") told.granted.set(leaseId, Number(epoch));
    if (what === "ending") told.ending.add(leaseId);
    if (what === "ended") told.ended.add(leaseId);
  }
}

async function killRounds(open: () => Promise<Store>, writerArguments: readonly string[]): Promise<void> {
  const fresh = await open();
  await fresh.leases.offer(offers(KILL_NODES, KILL_SLOTS));
  await fresh.close();
  const told: Told = { granted: new Map(), ended: new Set(), ending: new Set() };
  for (let round = 0; round < ROUNDS; round++) {
    const before = told.granted.size;
    // Not a round number: the kill falls at another point of the callers' cycle each time.
    const lines = 150 + round * 61;
    take(told, await killedWriter({ arguments: [...writerArguments, String(round * NUMBERS_PER_ROUND + 1)], lines }));
    expect(told.granted.size).toBeGreaterThan(before);
    const store = await open();
    const live = new Map((await expectSlotsRight(store)).map(({ leaseId, epoch }) => [String(leaseId), epoch]));
    for (const [leaseId, epoch] of told.granted) {
      if (told.ended.has(leaseId)) expect(live).not.toContain(leaseId);
      else if (!told.ending.has(leaseId)) expect([leaseId, live.get(leaseId)]).toEqual([leaseId, epoch]);
    }
    await store.close();
  }
  const epochs = [...told.granted.values()];
  expect(new Set(epochs).size).toBe(epochs.length);
}

describe("a coordinator killed while it leases", () => {
  test("loses no lease that was acknowledged, and leases no slot twice, on SQLite", {
    timeout: TEST_MS_MAX,
  }, async () => {
    const folder = await mkdtemp(join(tmpdir(), "fallow-lease-kill-"));
    const path = join(folder, "fallow.db");
    await killRounds(() => openSqliteStore({ path, nowMs: 1 }), ["sqlite", path]);
    await rm(folder, { recursive: true });
  });

  describe.skipIf(postgresAbsent() !== null)("with a PostgreSQL server", () => {
    let server: TestPostgres;
    beforeAll(async () => {
      server = await startPostgres();
    });
    afterAll(() => server.stop());

    test("loses no lease that was acknowledged, and leases no slot twice, on PostgreSQL", {
      timeout: TEST_MS_MAX,
    }, async () => {
      const url = await server.createDatabase();
      await killRounds(() => openPostgresStore({ url, nowMs: 1 }), ["postgres", url]);
    });
  });
});
