/**
 * The decisions of both sides together, as a swarm: `NextChunks` on each node and `SourceClaims` on the coordinator move chunks over ways
 * of stated widths, in steps of time. No sockets: what is shown is what the choices are worth.
 */
import { describe, expect, test } from "vitest";
import { ChunkSet } from "../../domain/chunk-set.ts";
import { type NodeId, nodeId } from "../../domain/ids.ts";
import { NextChunks } from "./next-chunks.ts";
import { SourceClaims } from "./source-claims.ts";

const node = (number: number): NodeId => nodeId(`node_${number.toString(16).padStart(32, "0")}`);
const MIB = 1024 * 1024;
const STEP_MS = 20;
const TELL_MS = 500;
const UPLOADS_MAX = 8;

interface Swarm {
  readonly nodes: number;
  readonly chunks: number;
  readonly sourceBytesPerSecond: number;
  readonly lanBytesPerSecond: number;
  /** This one begins to send flipped bits, or dies, when it has half. */
  readonly dies?: number;
  /** What each needs; all by default. */
  readonly need?: (number: number) => ChunkSet;
}

interface Transfer {
  readonly to: number;
  readonly from: number | null;
  readonly chunk: number;
  left: number;
}

/** Returns the bytes that the source sent and when each node was ready. */
function run(swarm: Swarm): { readonly sourceBytes: number; readonly readyMs: readonly number[] } {
  const { chunks } = swarm;
  const claims = new SourceClaims({ chunkCount: chunks, seed: 7 });
  const need = Array.from({ length: swarm.nodes }, (_, number) => swarm.need?.(number) ?? ChunkSet.full(chunks));
  const have = need.map(() => new ChunkSet(chunks));
  const pickers = need.map(
    (needed, number) => new NextChunks({ needed, have: new ChunkSet(chunks), chunkBytes: MIB, seed: number }),
  );
  const retryMs = need.map(() => 0);
  const readyMs = need.map(() => Number.POSITIVE_INFINITY);
  const dead = new Set<number>();
  let transfers: Transfer[] = [];
  let sourceBytes = 0;
  for (
    let nowMs = 0;
    nowMs < 3_600_000 && readyMs.some((ms, number) => ms > nowMs && !dead.has(number));
    nowMs += STEP_MS
  ) {
    const alive = need.map((_, number) => number).filter((number) => !dead.has(number));
    if (nowMs % TELL_MS === 0) {
      for (const number of alive) {
        const uploads = transfers.filter((one) => one.from === number).length;
        claims.setHolder(
          node(number),
          { chunks: have[number]?.clone() ?? new ChunkSet(chunks), uploads, uploadsMax: UPLOADS_MAX },
          nowMs,
        );
        for (const other of alive) {
          if (other === number) continue;
          const offered = have[number]?.clone() ?? new ChunkSet(chunks);
          pickers[other]?.setHolder({ nodeId: node(number), chunks: offered, rank: number, uploadsFree: null });
          pickers[other]?.measure(node(number), { rttMs: 1, bytesPerSecond: swarm.lanBytesPerSecond });
        }
      }
    }
    for (const number of alive) {
      const picker = pickers[number];
      if (picker === undefined) continue;
      for (let pick = picker.next(nowMs); pick !== null; pick = picker.next(nowMs)) {
        transfers.push({ to: number, from: Number.parseInt(pick.nodeId.slice(-8), 16), chunk: pick.chunk, left: MIB });
      }
      if (nowMs < (retryMs[number] ?? 0) || transfers.some((one) => one.to === number && one.from === null)) continue;
      const orphans = picker.orphans();
      if (orphans.size === 0) continue;
      const answer = claims.claim(
        { nodeId: node(number), need: orphans, chunksMax: 8, unreachable: new Set(), isIdle: false },
        nowMs,
      );
      retryMs[number] = nowMs + answer.retryAfterMs;
      for (const chunk of ChunkSet.of(chunks, answer.runs)) {
        if (picker.takeFromSource(chunk, nowMs)) transfers.push({ to: number, from: null, chunk, left: MIB });
      }
    }
    const fromSource = transfers.filter((one) => one.from === null).length;
    for (const one of transfers) {
      const sharers = one.from === null ? fromSource : transfers.filter((other) => other.from === one.from).length;
      const width = one.from === null ? swarm.sourceBytesPerSecond : swarm.lanBytesPerSecond;
      const moved = Math.min(one.left, ((width / sharers) * STEP_MS) / 1_000);
      if (one.from === null) sourceBytes += moved;
      one.left -= moved;
      if (one.left > 0 || have[one.to]?.add(one.chunk) !== true) continue;
      pickers[one.to]?.done(one.chunk, one.from === null ? "source" : node(one.from));
      if (have[one.to]?.includes(need[one.to] ?? new ChunkSet(chunks)) === true) readyMs[one.to] = nowMs + STEP_MS;
    }
    const victim = swarm.dies;
    if (victim !== undefined && !dead.has(victim) && (have[victim]?.size ?? 0) >= chunks / 2) {
      dead.add(victim);
      claims.dropNode(node(victim));
      for (const picker of pickers) picker.dropHolder(node(victim));
    }
    transfers = transfers.filter(
      (one) => one.left > 0 && !dead.has(one.to) && (one.from === null || !dead.has(one.from)),
    );
  }
  return { sourceBytes, readyMs: readyMs.filter((_, number) => !dead.has(number)) };
}

describe("five nodes that start together on one 100 Mbit/s way, with a LAN between them", () => {
  const home = { nodes: 5, chunks: 200, sourceBytesPerSecond: 12_500_000, lanBytesPerSecond: 60_000_000 };
  const alone = Math.max(...run({ ...home, nodes: 1 }).readyMs);

  test("take the model from the source once, and are all ready in little more than one download", () => {
    const { sourceBytes, readyMs } = run(home);
    expect(sourceBytes / (200 * MIB)).toBeLessThanOrEqual(1.02);
    expect(Math.max(...readyMs) / alone).toBeLessThanOrEqual(1.2);
  });

  test("take little more when one of them dies half way", () => {
    const { sourceBytes, readyMs } = run({ ...home, dies: 2 });
    expect(readyMs).toHaveLength(4);
    expect(sourceBytes / (200 * MIB)).toBeLessThanOrEqual(1.2);
    expect(Math.max(...readyMs) / alone).toBeLessThanOrEqual(1.5);
  });
});

test("a node that starts when its neighbour has all takes nothing from the source", () => {
  const chunks = 50;
  const claims = new SourceClaims({ chunkCount: chunks, seed: 1 });
  claims.setHolder(node(1), { chunks: ChunkSet.full(chunks), uploads: 0, uploadsMax: UPLOADS_MAX }, 0);
  const ask = {
    nodeId: node(2),
    need: ChunkSet.full(chunks),
    chunksMax: 256,
    unreachable: new Set<NodeId>(),
    isIdle: false,
  };
  for (let nowMs = 0; nowMs < 60_000; nowMs += 1_000) expect(claims.claim(ask, nowMs).runs).toEqual([]);
});

test("nodes of different layers take each its own and share what overlaps", () => {
  const need = (number: number) => ChunkSet.of(120, [[number * 20, 60]]);
  const { sourceBytes, readyMs } = run({
    nodes: 4,
    chunks: 120,
    sourceBytesPerSecond: 12_500_000,
    lanBytesPerSecond: 60_000_000,
    need,
  });
  expect(readyMs.every(Number.isFinite)).toBe(true);
  expect(sourceBytes / (120 * MIB)).toBeLessThanOrEqual(1.02);
});
