/**
 * Kills the coordinator again and again in the middle of its work, and looks after each start whether anything that was
 * promised is missing. The kill hits at a moment drawn from the seed, counted in what the clients have received.
 */
import { expect } from "vitest";
import { NodeCrypto } from "../../src/adapters/crypto-node/node-crypto.ts";
import { openPostgresStore, openSqliteStore } from "../../src/adapters/store-sql/sql-store.ts";
import { nodeHash } from "../../src/domain/merkle-tree.ts";
import { openCheckpoint, type TreeHead } from "../../src/market/checkpoint.ts";
import { fromHex, toHex } from "../../src/market/hex.ts";
import { consistencyPath, isConsistent, type PerfectHash, rootOf } from "../../src/market/merkle-log.ts";
import { verifyReceipt } from "../../src/market/verify-receipt.ts";
import type { Store } from "../../src/ports/store.ts";
import { SeededRandom } from "../../src/sim/time/random.ts";
import { parseSignedReceipt } from "../../src/wire/receipt.ts";
import { readBooks } from "./books.ts";
import { exchange, field, list, parsed } from "./exchange.ts";
import { type Grid, makeHome, removeHome, startGrid } from "./grid.ts";
import { type Asked, startMixedLoad } from "./mixed-load.ts";

export interface DrillOptions {
  readonly kills: number;
  readonly seed: number;
  /** A `postgres://` address; null for the home's SQLite file. */
  readonly database: string | null;
  readonly clients?: number;
}

export interface DrillReport {
  readonly asked: number;
  readonly acknowledged: number;
  readonly receipts: number;
  readonly unanswered: number;
}

const CLIENTS = 12;
const KEYS = 3;
/** Parts of answers between a start and its kill. */
const PARTS = { least: 5, most: 400 } as const;
/** Receipts that are fetched at one time. */
const AT_ONCE = 50;
/** Far more than one life of a coordinator makes before it is killed. */
const LISTED_MAX = 1_000;
const SECOND_MODEL = "tiny-again";

const crypto = new NodeCrypto();
const sha256 = (data: Uint8Array) => crypto.sha256(data);

/** What must be the same after each start. */
interface Lasting {
  readonly keys: readonly unknown[];
  readonly nodes: readonly unknown[];
  readonly models: readonly unknown[];
}

export async function drillCrashes(options: DrillOptions): Promise<DrillReport> {
  const random = new SeededRandom(`crash/${options.seed}`);
  const home = makeHome();
  const args = ["--threads", "1", ...(options.database === null ? [] : ["--database", options.database])];
  const asked: Asked[] = [];
  const heads: TreeHead[] = [];
  const verified = new Set<string>();
  let grid = await startGrid({ home, args });
  try {
    const keys = await furnish(grid);
    const lasting = await readLasting(grid);
    for (let round = 0; round < options.kills; round++) {
      const target = { apiUrl: grid.apiUrl, keys, model: "tiny" };
      const load = startMixedLoad(target, {
        clients: options.clients ?? CLIENTS,
        random: random.fork(`round-${round}`),
      });
      await load.whenArrived(random.between(PARTS.least, PARTS.most));
      process.kill(grid.pid, "SIGKILL");
      expect(await grid.exited, "the kill ended the coordinator").toBe("SIGKILL");
      const seen = await load.finish();
      asked.push(...seen);
      grid = await startGrid({ home, args });
      await checkStart(grid, { lasting, seen, heads, round });
      heads.push(...(await checkNewReceipts(grid, verified)));
    }
    expect(await grid.stop()).toBe(0);
    return await checkBooks(options.database, home, { asked, heads, verified });
  } finally {
    await grid.stop();
    removeHome(home);
  }
}

/** Makes keys and a second model, so that there is something to lose. */
async function furnish(grid: Grid): Promise<readonly string[]> {
  const path = new URL("../../models/tiny-q8_0.gguf", import.meta.url).pathname;
  const added = await exchange({
    url: `${grid.baseUrl}/admin/v1/models`,
    key: grid.apiKey,
    body: { path, id: SECOND_MODEL, warmReplicas: 0 },
  });
  expect([201, 200], added.body).toContain(added.status);
  const made = await Promise.all(
    Array.from({ length: KEYS }, (_, at) =>
      exchange({ url: `${grid.baseUrl}/admin/v1/keys`, key: grid.apiKey, body: { name: `drill-${at}` } }),
    ),
  );
  return made.map((answer) => String(field(parsed(answer.body), "secret")));
}

async function checkStart(
  grid: Grid,
  after: { lasting: Lasting; seen: readonly Asked[]; heads: TreeHead[]; round: number },
): Promise<void> {
  const where = `after kill ${after.round + 1}`;
  expect(await readLasting(grid), where).toEqual(after.lasting);
  const check = parsed(await admin(grid, "/ledger/check"));
  expect(field(check, "problems"), where).toEqual([]);
  expect(field(check, "openHolds"), where).toBe(0);
  const answered = after.seen.filter(({ isAcknowledged }) => isAcknowledged);
  const checks = answered.map(({ requestId, kind }) => checkReceipt(grid, requestId, `${where}, ${kind}`));
  after.heads.push(...(await Promise.all(checks)));
}

/** Fetches and verifies a receipt as anyone would. Answers the head of the log that came with it. */
async function checkReceipt(grid: Grid, id: string, where: string): Promise<TreeHead> {
  const answer = await exchange({ url: `${grid.baseUrl}/v1/grid/receipts/${id}`, key: grid.apiKey });
  expect(answer.status, `${where}: ${id}: ${answer.body.slice(0, 300)}`).toBe(200);
  const value = parsed(answer.body);
  const verdict = verifyReceipt(value, { parse: parseSignedReceipt, crypto });
  expect(
    verdict.checks.filter(({ isPassed }) => !isPassed),
    `${where}: ${id}`,
  ).toEqual([]);
  const key = fromHex(String(field(value, "coordinatorPublicKey")));
  const note = String(field(field(value, "inclusion"), "checkpoint"));
  const head = key === null ? null : openCheckpoint(note, key, crypto);
  if (head === null) throw new Error(`${where}: ${id} has no checkpoint`);
  return head;
}

/** All receipts since the last kill, also those of requests that no client was told of. */
async function checkNewReceipts(grid: Grid, verified: Set<string>): Promise<readonly TreeHead[]> {
  const requests = list(field(parsed(await admin(grid, `/requests?limit=${LISTED_MAX}`)), "requests"));
  const ids = requests.map((request) => String(field(request, "receiptId"))).filter((id) => !verified.has(id));
  const heads: TreeHead[] = [];
  for (let at = 0; at < ids.length; at += AT_ONCE) {
    const some = ids.slice(at, at + AT_ONCE);
    heads.push(...(await Promise.all(some.map((id) => checkReceipt(grid, id, "of all receipts")))));
    for (const id of some) verified.add(id);
  }
  return heads;
}

/** With the grid stopped: the store's own rows against what the clients saw, and the log against every head it showed. */
async function checkBooks(
  database: string | null,
  home: string,
  seen: { asked: readonly Asked[]; heads: readonly TreeHead[]; verified: ReadonlySet<string> },
): Promise<DrillReport> {
  const store = await openStore(database, home);
  try {
    const books = await readBooks(store, seen.asked);
    expect(books.problems).toEqual([]);
    const unverified = books.receipts.filter(({ receiptId }) => !seen.verified.has(receiptId));
    expect(unverified.map(({ receiptId }) => receiptId)).toEqual([]);
    checkGrowth(books.leaves, seen.heads);
    const acknowledged = seen.asked.filter(({ isAcknowledged }) => isAcknowledged).length;
    return {
      asked: seen.asked.length,
      acknowledged,
      receipts: books.receipts.length,
      unanswered: seen.asked.length - acknowledged,
    };
  } finally {
    await store.close();
  }
}

/** Every head is of a beginning of the log, and each leads to the next by a consistency proof (RFC 9162 section 2.1.4). */
function checkGrowth(leaves: readonly string[], heads: readonly TreeHead[]): void {
  const hashes = leaves.map((leaf) => fromHex(leaf) ?? new Uint8Array(0));
  const perfect: PerfectHash = (level, index) => perfectHash(hashes, level, index);
  const sorted = [...new Map(heads.map((head) => [head.size, head])).values()].sort((a, b) => a.size - b.size);
  for (const head of heads) {
    expect(toHex(head.root), `root at ${head.size}`).toBe(toHex(rootOf(head.size, perfect, sha256)));
  }
  for (const [at, to] of sorted.entries()) {
    const from = sorted[at - 1];
    if (from === undefined) continue;
    const path = consistencyPath({ from: from.size, to: to.size }, perfect, sha256);
    expect(isConsistent({ from, to, path }, sha256), `the log grew from ${from.size} to ${to.size}`).toBe(true);
  }
}

function perfectHash(leaves: readonly Uint8Array[], level: number, index: number): Uint8Array {
  if (level === 0) return leaves[index] ?? new Uint8Array(0);
  return nodeHash(perfectHash(leaves, level - 1, 2 * index), perfectHash(leaves, level - 1, 2 * index + 1), sha256);
}

function openStore(database: string | null, home: string): Promise<Store> {
  const nowMs = Date.now();
  return database === null
    ? openSqliteStore({ path: `${home}/grid.sqlite`, nowMs })
    : openPostgresStore({ url: database, nowMs });
}

async function readLasting(grid: Grid): Promise<Lasting> {
  const keys = list(field(parsed(await admin(grid, "/keys")), "keys"));
  const nodes = list(field(parsed(await admin(grid, "/nodes")), "nodes"));
  const models = list(field(parsed(await admin(grid, "/models")), "models"));
  return {
    keys: keys.map((key) => ["keyId", "name", "scopes", "secretHint", "revokedAtMs"].map((name) => field(key, name))),
    nodes: nodes.map((node) => ["nodeId", "name", "joinedAtMs"].map((name) => field(node, name))),
    models: models.map((model) => ["modelId", "weightsSha256", "addedAtMs"].map((name) => field(model, name))),
  };
}

async function admin(grid: Grid, path: string): Promise<string> {
  const answer = await exchange({ url: `${grid.baseUrl}/admin/v1${path}`, key: grid.apiKey });
  expect(answer.status, `${path}: ${answer.body.slice(0, 300)}`).toBe(200);
  return answer.body;
}
