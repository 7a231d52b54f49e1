/** The grid's source of weights: real files, real HTTP, the real tracker over real memberships. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { z } from "zod";
import { type HttpServer, startHttpServer } from "../src/adapters/http-server/http-server.ts";
import { DiskModelFiles } from "../src/adapters/model-files-disk/disk-model-files.ts";
import { DESCRIPTIONS_PER_MINUTE_MAX, DOWNLOADS_PER_NODE_MAX } from "../src/coordinator/weights/source-guard.ts";
import { WeightsEndpoint } from "../src/coordinator/weights/weights-endpoint.ts";
import { assert } from "../src/domain/assert.ts";
import { LINK_PATH, WEIGHTS_PATH } from "../src/wire/agent-link.ts";
import { KIB_64 } from "./support/chunked-model.ts";
import type { AgentUnderTest } from "./support/membership-grid.ts";
import { CHUNKS, WeightsGrid } from "./support/weights-grid.ts";

const FILE_BYTES = CHUNKS * KIB_64 - 1_000;

let folder: string;
let weights: WeightsGrid;
let endpoint: WeightsEndpoint;
let server: HttpServer;
let node: AgentUnderTest;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "fallow-source-"));
  weights = new WeightsGrid();
  await weights.grid.start();
  const path = join(folder, "model.gguf");
  await writeFile(path, weights.model.files[0] ?? "");
  const content = { ...weights.content, filePaths: [path] };
  endpoint = new WeightsEndpoint({
    sessions: weights.grid.registry,
    contents: { content: (sha256) => Promise.resolve(sha256 === weights.sha256 ? content : null) },
    tracker: weights.tracker,
    modelFiles: new DiskModelFiles({ folder: join(folder, "models"), bundled: [] }),
    clock: weights.grid.clock,
    log: weights.grid.log,
  });
  server = await startHttpServer({
    host: "127.0.0.1",
    port: 0,
    tls: null,
    handler: async (request) => (await endpoint.handle(request)) ?? new Response(null, { status: 404 }),
    links: { path: LINK_PATH, upgrade: ({ socket }) => socket.destroy() },
  });
  node = await one();
});
afterEach(async () => {
  await server.close(0);
  await rm(folder, { recursive: true, force: true });
});

async function one(options: Parameters<WeightsGrid["nodes"]>[1] = {}): Promise<AgentUnderTest> {
  const [agent] = await weights.nodes(1, options);
  assert(agent !== undefined, "one was asked for");
  return agent;
}

const bearerOf = (agent: AgentUnderTest) => agent.peers.line?.welcome.sessionToken ?? "";
const asked = (path: string, by: AgentUnderTest | string, headers: Record<string, string> = {}, method = "GET") => {
  const authorization = `Bearer ${typeof by === "string" ? by : bearerOf(by)}`;
  const url = `${server.localUrl}${WEIGHTS_PATH}${weights.sha256}/${path}`;
  return new Request(url, { method, headers: { authorization, ...headers } });
};
const get = (...of: Parameters<typeof asked>) => fetch(asked(...of));
const direct = async (...of: Parameters<typeof asked>) => {
  const response = await endpoint.handle(asked(...of));
  assert(response !== null, "the path is one of weights");
  return response;
};
const errorSchema = z.object({ error: z.object({ code: z.string() }) });
const codeOf = async (response: Response) => [response.status, errorSchema.parse(await response.json()).error.code];
const bytes = (from: number, count: number) => ({ range: `bytes=${from}-${from + count - 1}` });

describe("the source", () => {
  test("gives manifest and digests as they are kept, to a node that was told to have them", async () => {
    const manifest = await get("manifest", node);
    expect(manifest.headers.get("content-type")).toBe("application/json");
    expect(Buffer.from(await manifest.arrayBuffer()).equals(weights.model.signedManifest)).toBe(true);
    expect(Buffer.from(await (await get("digests", node)).arrayBuffer()).equals(weights.model.digests)).toBe(true);
    expect((await get("digests", node, {}, "HEAD")).headers.get("content-length")).toBe(String(CHUNKS * 32));
  });

  test("gives chunks that were claimed, and counts them", async () => {
    await weights.want(node);
    const given = await weights.claim(node, { chunksMax: 4 });
    const from = Math.min(...given) * KIB_64;
    const response = await get("files/0", node, bytes(from, 4 * KIB_64));
    expect(response.status).toBe(206);
    const got = Buffer.from(await response.arrayBuffer());
    expect(got.equals(weights.model.files[0]?.subarray(from, from + got.length) ?? Buffer.alloc(0))).toBe(true);
    expect(weights.tracker.swarms()[0]?.sourceBytes).toBe(got.length);
    expect(weights.tracker.swarms()[0]?.accounts.get(node.nodeId)?.sentBytes).toBe(got.length);
  });

  test("gives a node with peers nothing that it did not claim, nor what another claimed", async () => {
    const other = await one();
    await weights.want(node);
    await weights.want(other);
    const given = await weights.claim(node, { chunksMax: 4 });
    const own = Math.min(...given) * KIB_64;
    expect(await codeOf(await get("files/0", other, bytes(own, 10)))).toEqual([409, "not-claimed"]);
    expect(await codeOf(await get("files/0", node))).toEqual([409, "not-claimed"]);
    expect(await codeOf(await get("files/0", node, bytes(own, 4 * KIB_64 + 1)))).toEqual([409, "not-claimed"]);
    expect(endpoint.stats().refused).toEqual({ "not-claimed": 3 });
  });

  test("gives claimed chunks again after a break, and not without an end", async () => {
    await weights.want(node);
    const from = Math.min(...(await weights.claim(node, { chunksMax: 1 }))) * KIB_64;
    const statuses: number[] = [];
    for (let round = 0; round < 30; round++) {
      const response = await get("files/0", node, bytes(from, KIB_64));
      await response.arrayBuffer();
      statuses.push(response.status);
    }
    expect(statuses.slice(0, 10)).toEqual(Array.from({ length: 10 }, () => 206));
    expect(statuses.at(-1)).toBe(409);
  });

  test("gives a node without peers the whole file, with no claim", async () => {
    const alone = await one({ isPeer: false });
    const response = await get("files/0", alone);
    expect(response.status).toBe(200);
    expect((await response.arrayBuffer()).byteLength).toBe(FILE_BYTES);
  });

  test("gives nothing to a stranger who knows the digest, whatever he asks for", async () => {
    const stranger = await one({ isOrdered: false });
    for (const path of ["manifest", "digests", "files/0"]) {
      expect(await codeOf(await get(path, stranger))).toEqual([403, "not-ordered"]);
      expect(await codeOf(await get(path, "x".repeat(64)))).toEqual([401, "invalid-key"]);
    }
    expect((await fetch(`${server.localUrl}${WEIGHTS_PATH}${weights.sha256}/manifest`)).status).toBe(401);
  });

  test.each([
    "",
    "manifests",
    "files",
    "files/1",
    "files/0/x",
    "files/-1",
    "files/9999",
    "..%2f..%2fetc",
    "files/0%00",
  ])("has nothing at %j", async (path) => {
    expect(await codeOf(await get(path, node))).toEqual([404, "not-found"]);
  });

  test("answers a range beyond the file, and another method, by name", async () => {
    const alone = await one({ isPeer: false });
    const beyond = await get("files/0", alone, bytes(FILE_BYTES, 1));
    expect([beyond.status, beyond.headers.get("content-range")]).toEqual([416, `bytes */${FILE_BYTES}`]);
    expect((await get("files/0", alone, {}, "POST")).status).toBe(405);
    const tail = await get("files/0", alone, { range: `bytes=${FILE_BYTES - 5}-${FILE_BYTES + 5_000}` });
    expect([tail.status, (await tail.arrayBuffer()).byteLength]).toEqual([206, 5]);
  });

  test("cuts a download whose session ended, and gives its place back", async () => {
    const alone = await one({ isPeer: false });
    const begun = await Promise.all(Array.from({ length: DOWNLOADS_PER_NODE_MAX * 3 }, () => direct("files/0", alone)));
    const running = begun.filter(({ status }) => status === 200);
    expect(running).toHaveLength(DOWNLOADS_PER_NODE_MAX);
    expect(begun.find(({ status }) => status === 503)?.headers.get("retry-after")).toBe("5");
    const readers = running.map((response) => response.body?.getReader());
    for (const reader of readers) expect((await reader?.read())?.done).toBe(false);
    const stopping = alone.membership.stop({ drainMs: 0 });
    await weights.grid.run(1_000);
    await weights.grid.settled(stopping);
    for (const reader of readers) await expect(reader?.read()).rejects.toMatchObject({ code: "session-over" });
    expect(endpoint.stats().running).toBe(0);
  });

  test("frees the place of a reader that hangs up", async () => {
    const alone = await one({ isPeer: false });
    for (let round = 0; round < DOWNLOADS_PER_NODE_MAX * 2; round++) {
      const response = await direct("files/0", alone);
      expect(response.status).toBe(200);
      await response.body?.cancel();
    }
    expect(endpoint.stats().running).toBe(0);
  });

  test("tells a node that asks for the same manifest all the time to stop", async () => {
    const statuses: number[] = [];
    for (let round = 0; round <= DESCRIPTIONS_PER_MINUTE_MAX; round++) {
      const response = await direct("manifest", node);
      await response.body?.cancel();
      statuses.push(response.status);
    }
    expect([statuses[0], statuses.at(-2), statuses.at(-1)]).toEqual([200, 200, 429]);
    await weights.grid.run(61_000);
    expect((await direct("manifest", node)).status).toBe(200);
  });

  test("says so when the file is not what was registered", async () => {
    const alone = await one({ isPeer: false });
    await writeFile(join(folder, "model.gguf"), "short");
    expect(await codeOf(await get("files/0", alone))).toEqual([500, "internal"]);
    expect(endpoint.stats().running).toBe(0);
  });
});
