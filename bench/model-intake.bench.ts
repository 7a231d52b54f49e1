/**
 * How fast models come into the grid's home, and for how long the coordinator's event loop stands still meanwhile: its streams wait for as long.
 * In one run: a file of this machine, and a download from another process over plain HTTP, each hashed in a thread of its own (what the
 * coordinator does) and on the event loop (what it would be without). TLS is left out: it costs both the same.
 */
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { fileURLToPath } from "node:url";
import { ChunkHasher } from "../src/adapters/model-files-disk/chunk-hasher.ts";
import { DiskIncomingModels } from "../src/adapters/model-files-disk/disk-incoming-models.ts";
import { DiskModelFiles } from "../src/adapters/model-files-disk/disk-model-files.ts";
import { NetModelSources } from "../src/adapters/model-source/model-sources.ts";
import { sourceSettings } from "../src/adapters/model-source/source-settings.ts";
import { fetchFiles } from "../src/coordinator/models/fetch-files.ts";
import { assert } from "../src/domain/assert.ts";
import type { IncomingFile, IncomingModels } from "../src/ports/incoming-models.ts";
import type { FileDigests } from "../src/ports/model-files.ts";
import { openBench } from "./lib/bench-run.ts";

const MIB = 1024 * 1024;
const bench = openBench("model-intake");
const totalBytes = (bench.isSmoke ? 32 : 1_024) * MIB;
const signal = new AbortController().signal;
const folder = mkdtempSync(join(tmpdir(), "fallow-bench-intake-"));

interface Speed {
  readonly mibPerSecond: number;
  readonly loopMsP99: number;
  readonly loopMsMax: number;
}

async function timed<T>(name: string, act: () => Promise<T>): Promise<{ speed: Speed; made: T }> {
  const loop = monitorEventLoopDelay({ resolution: 1 });
  loop.enable();
  const startedMs = performance.now();
  const made = await act();
  const seconds = (performance.now() - startedMs) / 1_000;
  loop.disable();
  const speed = {
    mibPerSecond: Math.round(totalBytes / MIB / seconds),
    loopMsP99: Math.round(loop.percentile(99) / 1e5) / 10,
    loopMsMax: Math.round(loop.max / 1e5) / 10,
  };
  bench.say(
    `${name}: ${speed.mibPerSecond} MiB/s, event loop p99 ${speed.loopMsP99} ms, longest ${speed.loopMsMax} ms`,
  );
  return { speed, made };
}

// ---------------------------------------------------------------- as it would be on the event loop

class LoopIncomingFile implements IncomingFile {
  readonly path: string;
  readonly #file: FileHandle;
  readonly #hasher = new ChunkHasher(MIB);

  constructor(path: string, file: FileHandle) {
    this.path = path;
    this.#file = file;
  }

  get doneBytes(): number {
    return this.#hasher.bytes;
  }

  async append(bytes: Uint8Array): Promise<void> {
    await this.#file.write(bytes, 0, bytes.length, this.#hasher.bytes);
    this.#hasher.update(bytes);
  }

  restart(): Promise<void> {
    return Promise.reject(new Error("the bench's source stays the same"));
  }

  async finish(): Promise<FileDigests> {
    await this.#file.sync();
    return this.#hasher.finish();
  }

  close(): Promise<void> {
    return this.#file.close();
  }
}

const loopIncoming: Pick<IncomingModels, "open" | "room"> = {
  room: () => Promise.resolve(),
  open: async () => {
    const path = join(folder, "loop.part");
    return new LoopIncomingFile(path, await open(path, "w+"));
  },
};

async function digestOnLoop(path: string): Promise<FileDigests> {
  const file = await open(path, "r");
  const hasher = new ChunkHasher(MIB);
  for await (const part of file.createReadStream({ highWaterMark: MIB })) hasher.update(part);
  return hasher.finish();
}

// ---------------------------------------------------------------- the measurement

async function download(incoming: Pick<IncomingModels, "open" | "room">, port: number): Promise<FileDigests> {
  const settings = sourceSettings({ HF_TOKEN_PATH: join(folder, "none"), FALLOW_PRIVATE_SOURCES: "127.0.0.1" });
  const sources = new NetModelSources({ settings });
  const source = await sources.resolve(`http://127.0.0.1:${port}/model.gguf`, signal);
  const [file] = await fetchFiles(source.files, {
    incoming: {
      ...incoming,
      notes: () => Promise.resolve([]),
      note: () => Promise.resolve(),
      discard: () => Promise.resolve(),
    },
    jobId: "bench",
    chunkBytes: MIB,
    signal,
    knownVersions: [],
    onProgress: () => undefined,
    onWait: () => undefined,
    look: () => Promise.resolve(),
  });
  assert(file !== undefined, "the source has one file");
  return file.digests;
}

const server = spawn(
  process.execPath,
  [fileURLToPath(new URL("./lib/gguf-server-process.ts", import.meta.url)), String(totalBytes)],
  { stdio: ["ignore", "pipe", "inherit"] },
);
try {
  const port = await new Promise<number>((resolve) => server.stdout.once("data", (line) => resolve(Number(line))));
  mkdirSync(join(folder, "incoming"));
  const disk = new DiskIncomingModels({ folder: join(folder, "incoming") });
  const incoming: Pick<IncomingModels, "open" | "room"> = {
    open: (jobId, terms) => disk.open(jobId, terms),
    room: (bytes) => disk.room(bytes),
  };
  const loopFetch = await timed("download, hashed on the event loop", () => download(loopIncoming, port));
  const fetch = await timed("download, hashed in a thread      ", () => download(incoming, port));
  const path = join(folder, "loop.part");
  const loopFile = await timed("file, hashed on the event loop    ", () => digestOnLoop(path));
  const opened = await new DiskModelFiles({ folder, bundled: [] }).open(path);
  const file = await timed("file, hashed in a thread          ", () => opened.digest({ chunkBytes: MIB, signal }));
  await opened.close();
  const digests = [loopFetch, fetch, loopFile, file].map(({ made }) => made);
  assert(new Set(digests.map(({ sha256 }) => sha256)).size === 1, "all four see the same bytes");
  bench.keep({
    bars: [
      { name: "download: event loop p99 in ms", value: fetch.speed.loopMsP99, wanted: "at-most", limit: 10 },
      { name: "file: event loop p99 in ms", value: file.speed.loopMsP99, wanted: "at-most", limit: 5 },
    ],
    measured: {
      totalMib: totalBytes / MIB,
      downloadOnLoop: loopFetch.speed,
      download: fetch.speed,
      fileOnLoop: loopFile.speed,
      file: file.speed,
    },
  });
} finally {
  server.kill();
  rmSync(folder, { recursive: true, force: true });
}
