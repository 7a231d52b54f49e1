/** Weights on their way to a node: real files, real HTTP, real processes that are killed. */
import { type ChildProcess, execFileSync, fork } from "node:child_process";
import { createHash } from "node:crypto";
import { on, once } from "node:events";
import { mkdir, mkdtemp, readdir, readFile, rm, stat, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { type HttpServer, startHttpServer } from "../src/adapters/http-server/http-server.ts";
import { DiskModelFiles } from "../src/adapters/model-files-disk/disk-model-files.ts";
import { keptTlsIdentity } from "../src/adapters/tls-identity/tls-identity.ts";
import { HttpWeightsCache } from "../src/adapters/weights-http/http-weights-cache.ts";
import { DOWNLOADS_PER_NODE_MAX, WeightsEndpoint } from "../src/coordinator/registry/weights-endpoint.ts";
import { nodeId, type Sha256Hex, sha256Hex } from "../src/domain/ids.ts";
import type { WeightsWant } from "../src/ports/weights-cache.ts";
import { simLog } from "../src/sim/sim-log.ts";
import { LINK_PATH, WEIGHTS_PATH } from "../src/wire/agent-link.ts";
import { aManifest } from "./support/store-samples.ts";

const BEARER = "b".repeat(64);
const NODE = nodeId(`node_${"ab".repeat(16)}`);
const FILE_BYTES = 4_000_000;
/** Not random, not periodic in any block: a part in the wrong place changes the digest. */
const CONTENT = Buffer.from(
  Uint32Array.from({ length: FILE_BYTES / 4 }, (_, at) => Math.imul(at, 2_654_435_761)).buffer,
);
const SHA256: Sha256Hex = sha256Hex(createHash("sha256").update(CONTENT).digest("hex"));

let folder: string;
let cacheFolder: string;
let modelPath: string;
let server: HttpServer;
let endpoint: WeightsEndpoint;
/** Requests for weights as they came: the range asked for, and what was answered. */
let requests: { range: string | null; status: number }[];
/** Changes an answer on its way. */
let tamper: (response: Response) => Response;
const children: ChildProcess[] = [];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "fallow-weights-"));
  cacheFolder = join(folder, "cache");
  modelPath = join(folder, "model.gguf");
  await writeFile(modelPath, CONTENT);
  const manifest = { ...aManifest("tiny"), weightsSha256: SHA256, fileBytes: FILE_BYTES };
  endpoint = new WeightsEndpoint({
    sessions: { nodeOfBearer: (bearer) => (bearer === BEARER ? NODE : null) },
    models: { byWeights: (sha256) => (sha256 === SHA256 ? { manifest, weightsPath: modelPath } : null) },
    modelFiles: new DiskModelFiles({ folder: join(folder, "models"), bundled: [] }),
    log: simLog(() => undefined),
  });
  requests = [];
  tamper = (response) => response;
  server = await startHttpServer({
    host: "127.0.0.1",
    port: 0,
    tls: null,
    handler: async (request) => {
      const response = tamper((await endpoint.handle(request)) ?? new Response(null, { status: 404 }));
      requests.push({ range: request.headers.get("range"), status: response.status });
      return response;
    },
    links: { path: LINK_PATH, upgrade: ({ socket }) => socket.destroy() },
  });
});
afterEach(async () => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
  await server.close(0);
  await rm(folder, { recursive: true, force: true });
});

const target = () => ({ url: server.localUrl, certificateSha256: null });
const want = (fields: Partial<WeightsWant> = {}): WeightsWant => ({
  weightsSha256: SHA256,
  fileBytes: FILE_BYTES,
  path: `${WEIGHTS_PATH}${SHA256}`,
  bearer: BEARER,
  ...fields,
});
const cache = (at = cacheFolder) => new HttpWeightsCache({ folder: at, target: target() });
const quiet = () => ({ signal: new AbortController().signal, onProgress: () => undefined });

function startChild(): ChildProcess {
  const script = fileURLToPath(new URL("./support/weights-child.ts", import.meta.url));
  const child = fork(script, [cacheFolder, server.localUrl, JSON.stringify(want())]);
  children.push(child);
  return child;
}

/** Lets the first `bytes` of an answer pass and holds the rest back for ever. */
function stallAfter(bytes: number): (response: Response) => Response {
  return (response) => {
    const reader = response.body?.getReader();
    let passed = 0;
    const body = new ReadableStream<Uint8Array>({
      pull: async (controller) => {
        if (passed >= bytes) return new Promise(() => undefined);
        const { value } = (await reader?.read()) ?? {};
        if (value === undefined) return controller.close();
        const part = value.subarray(0, bytes - passed);
        passed += part.length;
        controller.enqueue(part);
      },
      cancel: () => reader?.cancel(),
    });
    return new Response(body, { status: response.status, headers: response.headers });
  };
}

/** Lets the first `bytes` of an answer pass and breaks the connection when they arrived: what it carries when it breaks is lost. */
function breakAfter(bytes: number, arrived: (bytes: number) => Promise<void>): (response: Response) => Response {
  return (response) => {
    const reader = response.body?.getReader();
    let passed = 0;
    const body = new ReadableStream<Uint8Array>({
      pull: async (controller) => {
        const { value } = (await reader?.read()) ?? {};
        if (value === undefined) return controller.close();
        if (passed + value.length > bytes) {
          controller.enqueue(value.subarray(0, bytes - passed));
          await reader?.cancel();
          await arrived(bytes);
          return controller.error(new Error("the line broke"));
        }
        passed += value.length;
        controller.enqueue(value);
      },
    });
    return new Response(body, { status: response.status, headers: response.headers });
  };
}

/** Compared as a whole: an assertion library that looks for the first difference of 4 MB takes seconds. */
async function expectContent(path: string): Promise<void> {
  expect(CONTENT.equals(await readFile(path))).toBe(true);
}

describe("a node's weights", () => {
  test("arrive whole, with progress, and are fetched once", async () => {
    const seen: number[] = [];
    const weights = cache();
    expect(await weights.has(SHA256)).toBe(false);
    const path = await weights.ensure(want(), { ...quiet(), onProgress: (doneBytes) => seen.push(doneBytes) });
    await expectContent(path);
    expect(seen.at(-1)).toBe(FILE_BYTES);
    expect(seen).toEqual(seen.toSorted((a, b) => a - b));
    expect(await weights.has(SHA256)).toBe(true);
    expect(await weights.ensure(want(), quiet())).toBe(path);
    expect(await cache().ensure(want(), quiet())).toBe(path);
    expect(requests).toEqual([{ range: null, status: 200 }]);
  });

  test("come over a pinned connection, and not at all from a coordinator with another certificate", async () => {
    const identity = await keptTlsIdentity(join(folder, "tls"));
    await server.close(0);
    server = await startHttpServer({
      host: "0.0.0.0",
      port: 0,
      tls: identity,
      handler: async (request) => (await endpoint.handle(request)) ?? new Response(null, { status: 404 }),
      links: { path: LINK_PATH, upgrade: ({ socket }) => socket.destroy() },
    });
    const url = `https://127.0.0.1:${server.port}`;
    const pinned = (certificateSha256: string) =>
      new HttpWeightsCache({ folder: cacheFolder, target: { url, certificateSha256 } });
    await expect(pinned("ab".repeat(32)).ensure(want(), quiet())).rejects.toMatchObject({
      code: "link-fingerprint-mismatch",
    });
    await expectContent(await pinned(identity.certificateSha256).ensure(want(), quiet()));
  });

  test("go on where they were when the agent is killed in the middle", async () => {
    tamper = stallAfter(2_500_000);
    const child = startChild();
    for await (const [message] of on(child, "message")) if (Number(message.doneBytes) >= 2_500_000) break;
    child.kill("SIGKILL");
    await once(child, "exit");
    expect(await cache().has(SHA256)).toBe(false);
    expect((await stat(join(cacheFolder, `${SHA256}.partial`))).size).toBe(2_500_000);
    tamper = (response) => response;
    await expectContent(await cache().ensure(want(), quiet()));
    expect(requests.at(-1)).toEqual({ range: "bytes=2500000-", status: 206 });
  });

  test("go on where they were when the connection breaks, again and again", async () => {
    let [doneBytes, sentBytes] = [0, 0];
    tamper = breakAfter(1_200_000, async (bytes) => {
      sentBytes += bytes;
      await vi.waitFor(() => expect(doneBytes).toBe(sentBytes), { timeout: 30_000 });
    });
    await expectContent(await cache().ensure(want(), { ...quiet(), onProgress: (bytes) => (doneBytes = bytes) }));
    expect(requests.map(({ range }) => range)).toEqual([null, "bytes=1200000-", "bytes=2400000-", "bytes=3600000-"]);
  });

  test("are fetched once by two agents that share a home", async () => {
    const [one, two] = [startChild(), startChild()];
    const pathFrom = async (child: ChildProcess): Promise<string> => {
      for await (const [message] of on(child, "message")) if (message.path !== undefined) return message.path;
      return "";
    };
    const paths = await Promise.all([pathFrom(one), pathFrom(two)]);
    expect(paths[0]).toBe(paths[1]);
    await expectContent(paths[0] ?? "");
    expect(requests).toHaveLength(1);
  });

  test("that were damaged on the disk are noticed by the next process and fetched again", async () => {
    const path = await cache().ensure(want(), quiet());
    const damaged = Buffer.from(CONTENT);
    damaged[1_234_567] = (damaged[1_234_567] ?? 0) ^ 1;
    await writeFile(path, damaged);
    await expectContent(await cache().ensure(want(), quiet()));
    await truncate(path, 1_000);
    await expectContent(await cache().ensure(want(), quiet()));
    expect(requests).toHaveLength(3);
  });

  test("whose first half was damaged by a crash are fetched from the beginning", async () => {
    await mkdir(cacheFolder);
    await writeFile(join(cacheFolder, `${SHA256}.partial`), Buffer.alloc(1_000_000));
    await expectContent(await cache().ensure(want(), quiet()));
    expect(requests.map(({ status }) => status)).toEqual([206, 200]);
  });

  test("that are not what was promised are refused, and nothing of them is kept", async () => {
    const other = Buffer.from(CONTENT);
    other[0] = (other[0] ?? 0) ^ 1;
    await writeFile(modelPath, other);
    await expect(cache().ensure(want(), quiet())).rejects.toMatchObject({ code: "weights-digest-mismatch" });
    expect((await readdir(cacheFolder)).filter((name) => !name.endsWith(".lock"))).toEqual([]);
  });

  test("from a coordinator that sends without an end are cut at their size", async () => {
    tamper = (response) => {
      void response.body?.cancel();
      return new Response(new ReadableStream({ pull: (controller) => controller.enqueue(new Uint8Array(100_000)) }));
    };
    await expect(cache().ensure(want(), quiet())).rejects.toMatchObject({ code: "weights-digest-mismatch" });
  });

  test.each([
    ["nothing", () => new Response(new Uint8Array(0), { status: 200 })],
    ["another range", () => new Response("x", { status: 206, headers: { "content-range": "bytes 7-7/8" } })],
  ])("from a coordinator that answers with %s again and again are given up", { timeout: 20_000 }, async (_, answer) => {
    const noWait = vi.spyOn(Math, "random").mockReturnValue(0);
    try {
      tamper = answer;
      await expect(cache().ensure(want(), quiet())).rejects.toMatchObject({ code: "weights-unreachable" });
      expect(requests.length).toBeLessThan(10);
    } finally {
      noWait.mockRestore();
    }
  });

  test("that do not fit on the disk are refused before a byte is fetched", async () => {
    const huge = want({ fileBytes: 2 ** 52 });
    await expect(cache().ensure(huge, quiet())).rejects.toMatchObject({
      code: "disk-full",
      data: { neededBytes: expect.any(Number) },
    });
    expect(requests).toEqual([]);
  });

  const canMount = process.getuid?.() === 0 && process.platform === "linux";
  test.skipIf(!canMount)(
    "on a disk that fills up in the middle fail as such, and go on when there is room (needs root, to mount a small disk)",
    async () => {
      await mkdir(cacheFolder);
      execFileSync("mount", ["-t", "tmpfs", "-o", "size=70m", "tmpfs", cacheFolder]);
      try {
        const filler = join(cacheFolder, "filler");
        let isFilled = false;
        const fill = () => {
          if (isFilled) return;
          isFilled = true;
          try {
            execFileSync("dd", ["if=/dev/zero", `of=${filler}`, "bs=1M", "count=100"], { stdio: "ignore" });
          } catch {
            // dd ends with an error when the disk is full, which is what it is for
          }
        };
        const fetching = cache().ensure(want(), { ...quiet(), onProgress: fill });
        await expect(fetching).rejects.toMatchObject({ code: "disk-full" });
        expect(await cache().has(SHA256)).toBe(false);
        await rm(filler);
        await expectContent(await cache().ensure(want(), quiet()));
        expect(requests.at(-1)?.status).toBe(206);
      } finally {
        execFileSync("umount", [cacheFolder]);
      }
    },
  );

  test("are not for strangers, and an ended session says so at once", async () => {
    await expect(cache().ensure(want({ bearer: "x".repeat(64) }), quiet())).rejects.toMatchObject({
      code: "weights-unreachable",
      data: { status: 401 },
    });
    expect((await fetch(`${server.localUrl}${WEIGHTS_PATH}${SHA256}`)).status).toBe(401);
    const unknown = { weightsSha256: sha256Hex("ab".repeat(32)), path: `${WEIGHTS_PATH}${"ab".repeat(32)}` };
    await expect(cache().ensure(want(unknown), quiet())).rejects.toMatchObject({ data: { status: 404 } });
    expect(requests).toHaveLength(3);
  });

  test("are given up when the caller says so", async () => {
    tamper = stallAfter(1_000);
    const giveUp = new AbortController();
    const ensured = cache().ensure(want(), { signal: giveUp.signal, onProgress: () => giveUp.abort() });
    await expect(ensured).rejects.toMatchObject({ name: "AbortError" });
    tamper = (response) => response;
    await cache().ensure(want(), quiet()); // the lock is free again
  });
});

describe("the weights endpoint", () => {
  const get = (headers: Record<string, string> = {}, method = "GET") =>
    fetch(`${server.localUrl}${WEIGHTS_PATH}${SHA256}`, {
      method,
      headers: { authorization: `Bearer ${BEARER}`, ...headers },
    });

  test.each([
    ["bytes=0-", 206, FILE_BYTES],
    ["bytes=3999999-", 206, 1],
    ["bytes=10-19", 206, 10],
    ["bytes=10-99999999", 206, FILE_BYTES - 10],
    ["bytes=-5", 206, 5],
    ["bytes=4000000-", 416, null],
    ["bytes=0-1,5-6", 200, FILE_BYTES],
    ["bytes=9-1", 200, FILE_BYTES],
    ["lines=1-2", 200, FILE_BYTES],
  ] as const)("answers %s with %d", async (range, status, bytes) => {
    const response = await get({ range });
    expect(response.status).toBe(status);
    const body = new Uint8Array(await response.arrayBuffer());
    if (bytes === null) return;
    expect(body.length).toBe(bytes);
    const from = status === 206 ? Number(/bytes (\d+)-/.exec(response.headers.get("content-range") ?? "")?.[1]) : 0;
    expect(Buffer.compare(body, CONTENT.subarray(from, from + bytes))).toBe(0);
  });

  test("tells size and digest without a body, and takes no other method", async () => {
    const head = await get({}, "HEAD");
    expect([head.status, head.headers.get("content-length"), head.headers.get("etag")]).toEqual([
      200,
      "4000000",
      `"${SHA256}"`,
    ]);
    expect((await get({}, "POST")).status).toBe(405);
  });

  test("serves one node so many files at once, and frees the place of a download that was given up", async () => {
    const running = await Promise.all(Array.from({ length: DOWNLOADS_PER_NODE_MAX }, () => endpoint.handle(held())));
    const refused = await endpoint.handle(held());
    expect([refused?.status, refused?.headers.get("retry-after")]).toEqual([503, "5"]);
    await running[0]?.body?.cancel();
    const next = await endpoint.handle(held());
    expect(next?.status).toBe(200);
    for (const response of [...running.slice(1), next]) await response?.body?.cancel();
  });

  test("serves no more of them when they are asked for in one instant", async () => {
    const answers = await Promise.all(
      Array.from({ length: DOWNLOADS_PER_NODE_MAX * 3 }, () => endpoint.handle(held())),
    );
    expect(answers.filter((answer) => answer?.status === 200)).toHaveLength(DOWNLOADS_PER_NODE_MAX);
    for (const answer of answers) await answer?.body?.cancel();
    const next = await endpoint.handle(held());
    expect(next?.status).toBe(200);
    await next?.body?.cancel();
  });

  test("frees the place, and the file, of a node that hangs up in the middle", async () => {
    for (let round = 0; round < DOWNLOADS_PER_NODE_MAX * 3; round++) {
      const giveUp = new AbortController();
      tamper = stallAfter(100_000);
      const response = await fetch(`${server.localUrl}${WEIGHTS_PATH}${SHA256}`, {
        headers: { authorization: `Bearer ${BEARER}` },
        signal: giveUp.signal,
      });
      expect(response.status).toBe(200);
      const reader = response.body?.getReader();
      await reader?.read();
      giveUp.abort();
      await expect(reader?.read()).rejects.toMatchObject({ name: "AbortError" });
      await vi.waitFor(async () => {
        const probe = await Promise.all(Array.from({ length: DOWNLOADS_PER_NODE_MAX }, () => endpoint.handle(held())));
        for (const answer of probe) await answer?.body?.cancel();
        expect(probe.map((answer) => answer?.status)).toEqual(probe.map(() => 200));
      });
    }
  });

  const held = () =>
    new Request(`http://grid${WEIGHTS_PATH}${SHA256}`, { headers: { authorization: `Bearer ${BEARER}` } });
});
