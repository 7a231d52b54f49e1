/**
 * What a node's store of chunks gives on this disk: writing chunks as they come, checking a whole model before an engine opens it, and reading
 * for others, in one run with hashing alone and with writing alone, which are the limits; and for how long the event loop stands still
 * meanwhile. A store that is much slower than these would hold fast links up. Writing ends when the disk has it (one sync for the whole
 * model); the page cache is warm for reading, as it is just after a fetch.
 */
import { createHash, randomFillSync, webcrypto } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { DiskChunkStore } from "../src/adapters/chunk-store-disk/disk-chunk-store.ts";
import { assert } from "../src/domain/assert.ts";
import { sha256Hex } from "../src/domain/ids.ts";
import { CHUNK_BYTES_DEFAULT, CHUNK_BYTES_LARGE, type WeightsManifest } from "../src/domain/weights.ts";
import type { StoredContent } from "../src/ports/chunk-store.ts";
import { openBench } from "./lib/bench-run.ts";

const MIB = 1024 * 1024;
const READ_BYTES = 64 * 1024;
const WRITES_AT_ONCE = 4;
const bench = openBench("chunk-store");
const totalBytes = (bench.isSmoke ? 32 : 1_024) * MIB;
const signal = new AbortController().signal;
const bytes = Buffer.alloc(totalBytes);
for (let at = 0; at < totalBytes; at += 256 * MIB) randomFillSync(bytes, at, Math.min(256 * MIB, totalBytes - at));

interface Speed {
  readonly mibPerSecond: number;
  readonly loopMsP99: number;
  readonly loopMsMax: number;
}

async function timed(name: string, moved: number, act: () => Promise<unknown>): Promise<Speed> {
  const loop = monitorEventLoopDelay({ resolution: 1 });
  loop.enable();
  const startedMs = performance.now();
  await act();
  const seconds = (performance.now() - startedMs) / 1_000;
  loop.disable();
  const speed = {
    mibPerSecond: Math.round(moved / MIB / seconds),
    loopMsP99: Math.round(loop.percentile(99) / 1e5) / 10,
    loopMsMax: Math.round(loop.max / 1e5) / 10,
  };
  bench.say(
    `${name}: ${speed.mibPerSecond} MiB/s, event loop p99 ${speed.loopMsP99} ms, longest ${speed.loopMsMax} ms`,
  );
  return speed;
}

function contentOf(chunkBytes: number): StoredContent {
  const digest = (part: Uint8Array) => createHash("sha256").update(part).digest();
  const count = totalBytes / chunkBytes;
  const whole = sha256Hex(digest(bytes).toString("hex"));
  const manifest: WeightsManifest = {
    version: 1,
    weightsSha256: whole,
    chunkBytes,
    files: [{ name: "model.gguf", fileBytes: totalBytes, sha256: whole, chunkRoot: whole }],
    layerCount: 1,
    parts: [],
    source: { kind: "local" },
    licence: null,
    tokenizerSha256: whole,
  };
  const digests = Buffer.concat(
    Array.from({ length: count }, (_, at) => digest(bytes.subarray(at * chunkBytes, (at + 1) * chunkBytes))),
  );
  return { manifest, digests, signedManifest: Buffer.from("{}") };
}

/** Calls `act` for each chunk, so many at once. */
async function each(count: number, atOnce: number, act: (chunk: number) => Promise<unknown>): Promise<void> {
  let next = 0;
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      while (next < count) await act(next++);
    }),
  );
}

async function run(chunkBytes: number): Promise<Readonly<Record<string, Speed>>> {
  const folder = mkdtempSync(join(tmpdir(), "fallow-bench-chunks-"));
  const size = `${chunkBytes / MIB} MiB chunks`;
  const count = totalBytes / chunkBytes;
  const part = (chunk: number) => bytes.subarray(chunk * chunkBytes, (chunk + 1) * chunkBytes);
  try {
    const content = contentOf(chunkBytes);
    const store = new DiskChunkStore({ folder, headroomBytes: 0 });
    const hash = await timed(`${size}: hashing alone, off the loop`, totalBytes, () =>
      each(count, 3, (chunk) => webcrypto.subtle.digest("SHA-256", part(chunk))),
    );
    const plain = await timed(`${size}: writing alone, to the disk`, totalBytes, async () => {
      const file = await open(join(folder, "plain"), "wx");
      for (let chunk = 0; chunk < count; chunk++) await file.write(part(chunk), 0, chunkBytes, chunk * chunkBytes);
      await file.datasync();
      await file.close();
    });
    rmSync(join(folder, "plain"));
    const writer = await store.open(content, { signal });
    assert(await writer.tryLock(), "nobody else writes here");
    const write = await timed(`${size}: writing, ${WRITES_AT_ONCE} at once`, totalBytes, () =>
      each(count, WRITES_AT_ONCE, (chunk) => writer.write(chunk, part(chunk))),
    );
    await writer.close();
    const reader = await store.open(content, { signal });
    const check = await timed(`${size}: checking the whole for an engine`, totalBytes, () => reader.path());
    const read = await timed(`${size}: reading for others, ${READ_BYTES / 1024} KiB at a time`, totalBytes, () =>
      each(count, WRITES_AT_ONCE, async (chunk) => {
        for (let at = 0; at < chunkBytes; at += READ_BYTES) await reader.read(chunk, at, READ_BYTES);
      }),
    );
    await reader.close();
    return { hash, plain, write, check, read };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const small = await run(CHUNK_BYTES_DEFAULT);
const large = await run(CHUNK_BYTES_LARGE);
const share = (of: Speed | undefined, ofHash: Speed | undefined) =>
  Math.round((100 * (of?.mibPerSecond ?? 0)) / Math.max(1, ofHash?.mibPerSecond ?? 1)) / 100;
bench.keep({
  bars: [
    { name: "checking, of hashing alone", value: share(small["check"], small["hash"]), wanted: "at-least", limit: 0.5 },
    { name: "writing, of writing alone", value: share(small["write"], small["plain"]), wanted: "at-least", limit: 0.4 },
    // 1 Gbit/s is 119 MiB/s.
    { name: "reading for others, MiB/s", value: small["read"]?.mibPerSecond ?? 0, wanted: "at-least", limit: 240 },
    { name: "longest stand of the loop, ms", value: small["check"]?.loopMsMax ?? 0, wanted: "at-most", limit: 50 },
  ],
  measured: { totalMib: totalBytes / MIB, small, large },
});
