/**
 * The disk that holds the grid's home fills up under it. The home is a small tmpfs of its own, mounted in a mount namespace that only
 * the grid lives in (root on Linux), so that no other process notices.
 */
import { spawnSync } from "node:child_process";
import { closeSync, openSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { NodeCrypto } from "../src/adapters/crypto-node/node-crypto.ts";
import { verifyReceipt } from "../src/market/verify-receipt.ts";
import { parseSignedReceipt } from "../src/wire/receipt.ts";
import { exchange, parsed, readStream, readWhole } from "./support/exchange.ts";
import { type Grid, makeHome, removeHome, startGrid } from "./support/grid.ts";
import { askStream, expectBalanced, streamBody, until } from "./support/grid-console.ts";

/** Of a disk this small an agent leaves half to its owner. */
const HOME_MIB = 112;
const MOUNT = ["unshare", "--mount", "--propagation", "private"];
const IN_SMALL_HOME = [
  ...MOUNT,
  "sh",
  "-c",
  `mount -t tmpfs -o size=${HOME_MIB}m tmpfs "$FALLOW_HOME" && exec "$@"`,
  "sh",
];
const QUESTION = { prompt: "In the beginning", tokens: 16, seed: 6 } as const;

const canMount =
  process.platform === "linux" &&
  spawnSync(MOUNT[0] ?? "", [...MOUNT.slice(1), "sh", "-c", "mount -t tmpfs tmpfs /mnt"]).status === 0;

describe("a full disk", () => {
  it.skipIf(!canMount)(
    `is told to clients, loses nothing that was acknowledged, and is over when there is room again${canMount ? "" : " (left out: needs root on Linux)"}`,
    async () => {
      const home = makeHome();
      const grid = await startGrid({ home, through: IN_SMALL_HOME });
      try {
        const acknowledged = [await ask(grid)];
        const text = acknowledged[0]?.text;
        expect(text).not.toBe(null);
        const running = startStreams(grid);
        await running.begun;
        fill(grid);
        for (const cut of await running.ended) if (cut.text !== null) acknowledged.push(cut);
        const refusals: string[] = [];
        await until("a full disk stops the charging", async () => {
          const answer = await ask(grid);
          if (answer.text === null) refusals.push(answer.error);
          else acknowledged.push(answer);
          return refusals.length >= 3;
        });
        for (const refusal of refusals) expect(refusal).toMatch(/disk .* is full/);
        expect((await exchange({ url: `${grid.baseUrl}/health` })).status, "the coordinator lives").toBe(200);
        expect((await exchange({ url: `${grid.apiUrl}/models`, key: grid.apiKey })).status).toBe(200);
        release(grid);
        await until("it serves again", async () => (await ask(grid)).text === text);
        for (const { requestId } of acknowledged) await expectReceipt(grid, requestId);
        await expectBalanced(grid);
      } finally {
        await grid.stop();
        removeHome(home);
      }
    },
  );
});

interface Asked {
  readonly requestId: string | null;
  /** Null: refused or ended in an error. */
  readonly text: string | null;
  readonly error: string;
}

async function ask(grid: Grid): Promise<Asked> {
  const answer = await askStream(grid, QUESTION);
  const isWhole = answer.status === 200 && answer.isDone && answer.error === null;
  const said = answer.status === 200 ? readStream(answer.body).error : readWhole(answer.body).error;
  return {
    requestId: answer.requestId,
    text: isWhole ? (answer.texts[0] ?? "") : null,
    error: said?.message ?? answer.body,
  };
}

const STREAMS = 4;

/** Answers that run while the disk fills up; `begun` resolves when each has shown its first words. */
function startStreams(grid: Grid): { readonly begun: Promise<unknown>; readonly ended: Promise<readonly Asked[]> } {
  const streams = Array.from({ length: STREAMS }, (_, at) => {
    let start: () => void = () => undefined;
    const begun = new Promise<void>((resolve) => {
      start = resolve;
    });
    const ended = exchange({
      url: `${grid.apiUrl}/completions`,
      key: grid.apiKey,
      body: streamBody({ ...QUESTION, tokens: 400, seed: at }),
      onData: () => {
        start();
        return undefined;
      },
    }).then(({ body, requestId }): Asked => {
      const read = readStream(body);
      const isWhole = read.isDone && read.error === null;
      return { requestId, text: isWhole ? (read.texts[0] ?? "") : null, error: read.error?.message ?? "cut" };
    });
    return { begun, ended };
  });
  return {
    begun: Promise.all(streams.map(({ begun }) => begun)),
    ended: Promise.all(streams.map(({ ended }) => ended)),
  };
}

const fillerOf = (grid: Grid) => join(`/proc/${grid.pid}/root`, grid.home, "filler");

/** Down to the last byte, seen through the grid's own mount namespace. */
function fill(grid: Grid): void {
  const handle = openSync(fillerOf(grid), "w");
  try {
    for (const size of [1024 * 1024, 4096, 1]) {
      const part = Buffer.alloc(size);
      try {
        while (writeSync(handle, part) === size);
      } catch {
        // no room for a part of this size: the next is smaller
      }
    }
  } finally {
    closeSync(handle);
  }
}

function release(grid: Grid): void {
  rmSync(fillerOf(grid));
}

async function expectReceipt(grid: Grid, requestId: string | null): Promise<void> {
  const answer = await exchange({ url: `${grid.baseUrl}/v1/grid/receipts/${requestId}`, key: grid.apiKey });
  expect(answer.status, answer.body).toBe(200);
  const verdict = verifyReceipt(parsed(answer.body), { parse: parseSignedReceipt, crypto: new NodeCrypto() });
  expect(verdict.checks.filter(({ isPassed }) => !isPassed)).toEqual([]);
}
