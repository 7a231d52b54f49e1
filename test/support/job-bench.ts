/** Jobs over a real store and real files, with lines that are answered by the test instead of the gateway. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { Registry } from "prom-client";
import { DiskBlobFiles } from "../../src/adapters/blob-files-disk/disk-blob-files.ts";
import { SystemClock } from "../../src/adapters/clock-system/system-clock.ts";
import { SystemRandom } from "../../src/adapters/clock-system/system-random.ts";
import { NodeCrypto } from "../../src/adapters/crypto-node/node-crypto.ts";
import { UlidIds } from "../../src/adapters/ids-ulid/ulid-ids.ts";
import { BusboyMultipart } from "../../src/adapters/multipart-busboy/busboy-multipart.ts";
import { openThreadedSqliteStore } from "../../src/adapters/store-sql/sqlite-thread.ts";
import type { JobOptions } from "../../src/coordinator/jobs/job-options.ts";
import type { InnerRequest } from "../../src/coordinator/jobs/job-ports.ts";
import { Jobs } from "../../src/coordinator/jobs/jobs.ts";
import { LineBook } from "../../src/coordinator/jobs/line-book.ts";
import type { ApiKey } from "../../src/ports/store.ts";
import { simLog } from "../../src/sim/sim-log.ts";
import { anApiKey, aTenant } from "./store-samples.ts";

export type Answer = (request: InnerRequest, book: LineBook) => Promise<Response>;

export interface JobBench extends AsyncDisposable {
  readonly jobs: Jobs;
  readonly key: ApiKey;
  readonly store: Awaited<ReturnType<typeof openThreadedSqliteStore>>;
  readonly blobs: DiskBlobFiles;
  /** A new coordinator over the same store and files; `isKilled`: the old one is not told. */
  restart(isKilled: boolean, answer?: Answer): Promise<void>;
  upload(lines: Iterable<string>): Promise<string>;
  submit(fileId: string): Promise<string>;
  /** Resolves with its last view. */
  ended(id: string): Promise<Awaited<ReturnType<Jobs["find"]>> & { readonly ok: true }>;
  text(fileId: string | null): Promise<string>;
}

/** A killed coordinator's timers go on here: none of them may ask the store after its end. */
const NO_LOOK_MS = 86_400_000;

export async function openJobBench(answer: Answer, options: Partial<JobOptions> = {}): Promise<JobBench> {
  const folder = mkdtempSync(join(tmpdir(), "fallow-jobs-"));
  const clock = new SystemClock();
  const ids = new UlidIds({ clock, random: new SystemRandom() });
  const store = await openThreadedSqliteStore({ path: join(folder, "grid.sqlite"), nowMs: Date.now() });
  const blobs = new DiskBlobFiles({ folder: join(folder, "files") });
  const key = anApiKey(1, { expiresAtMs: null, revokedAtMs: null, models: null });
  await store.tenants.create(aTenant(1));
  await store.keys.create(key);
  let boot = 0;
  const open = async (answers: Answer) => {
    boot += 1;
    const book = new LineBook();
    const ask = (request: InnerRequest) => answers(request, book);
    const ports = { clock, ids, store, blobs, book, ask, crypto: new NodeCrypto(), log: simLog(() => undefined) };
    const multipart = new BusboyMultipart();
    const started = new Jobs(
      { ...ports, multipart, isServed: () => true },
      { boot, registry: new Registry(), jobs: { keyLookMs: NO_LOOK_MS, ...options } },
    );
    await started.start();
    return started;
  };
  let jobs = await open(answer);
  return {
    get jobs() {
      return jobs;
    },
    key,
    store,
    blobs,
    restart: async (isKilled, next = answer) => {
      if (!isKilled) await jobs.stop();
      jobs = await open(next);
    },
    upload: async (lines) => {
      const head =
        '--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n';
      function* parts() {
        yield Buffer.from(head);
        let held: string[] = [];
        for (const line of lines) {
          held.push(line, "\n");
          if (held.length < 2_000) continue;
          yield Buffer.from(held.join(""));
          held = [];
        }
        yield Buffer.from(`${held.join("")}\r\n--x--\r\n`);
      }
      const form = { contentType: "multipart/form-data; boundary=x", contentLength: null };
      const kept = await jobs.files.upload({ ...form, tenantId: key.tenantId, body: Readable.from(parts()) });
      if (!kept.ok) throw new Error(kept.reason.message);
      return kept.value.fileId;
    },
    submit: async (inputFileId) => {
      const wanted = {
        endpoint: "/v1/completions",
        completionWindow: "24h",
        metadata: null,
        outputExpiresAfterS: null,
      };
      const made = await jobs.submit({ key, inputFileId, ...wanted });
      if (!made.ok) throw new Error(made.reason.message);
      return made.value.record.batchId;
    },
    ended: async (id) => {
      for (;;) {
        const found = await jobs.find(key.tenantId, id);
        if (!found.ok) throw new Error(found.reason.message);
        if (["completed", "failed", "expired", "cancelled"].includes(found.value.record.status)) return found;
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    },
    text: async (id) => {
      const file = id === null ? null : await jobs.files.find(key.tenantId, id);
      const reader = file?.ok === true ? await blobs.open(file.value.fileId) : null;
      if (reader === null) return "";
      const bytes = await reader.read(0, reader.bytes);
      await reader.close();
      return new TextDecoder().decode(bytes);
    },
    [Symbol.asyncDispose]: async () => {
      await jobs.stop();
      await store.close();
      rmSync(folder, { recursive: true });
    },
  };
}

export function promptLine(at: number, more: object = {}): string {
  const body = { model: "tiny", prompt: `line ${at}`, ...more };
  return JSON.stringify({ custom_id: `c${at}`, method: "POST", url: "/v1/completions", body });
}

export function succeeded(text = "yes"): Response {
  return Response.json({ choices: [{ text }], usage: { prompt_tokens: 2, completion_tokens: 3 } });
}

export function refused(status: number, code: string): Response {
  return Response.json({ error: { message: code, type: "server_error", param: null, code } }, { status });
}
