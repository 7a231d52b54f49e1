/** The coordinator as an agent's source of weights: real HTTP, cut, busy, wrong and foreign. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type HttpServer, startHttpServer } from "../src/adapters/http-server/http-server.ts";
import { keptTlsIdentity } from "../src/adapters/tls-identity/tls-identity.ts";
import { HttpWeightsSource } from "../src/adapters/weights-http/http-weights-source.ts";
import { sha256Hex } from "../src/domain/ids.ts";
import { LINK_PATH, WEIGHTS_PATH } from "../src/wire/agent-link.ts";

const SHA256 = sha256Hex("ab".repeat(32));
const BEARER = "b".repeat(64);
const BYTES = 2_000_000;
const CONTENT = Buffer.from(Uint32Array.from({ length: BYTES / 4 }, (_, at) => Math.imul(at, 2_654_435_761)).buffer);

let server: HttpServer;
let source: HttpWeightsSource;
/** What was asked for: path and range. */
let asked: string[];
let answer: (request: Request, span: { first: number; last: number } | null) => Response;
const options = { bearer: BEARER, signal: new AbortController().signal };

const right: typeof answer = (_request, span) => {
  if (span === null) return new Response(CONTENT);
  const headers = { "content-range": `bytes ${span.first}-${span.last}/${BYTES}` };
  return new Response(CONTENT.subarray(span.first, span.last + 1), { status: 206, headers });
};

beforeEach(async () => {
  asked = [];
  answer = right;
  server = await startHttpServer({ host: "127.0.0.1", port: 0, tls: null, handler, links });
  source = new HttpWeightsSource({ target: { url: server.localUrl, certificateSha256: null } });
});
afterEach(async () => {
  source.close();
  await server.close(0);
});

const links = { path: LINK_PATH, upgrade: ({ socket }: { socket: { destroy(): void } }) => socket.destroy() };
const handler = async (request: Request) => {
  const range = request.headers.get("range");
  asked.push(`${new URL(request.url).pathname.slice(WEIGHTS_PATH.length + SHA256.length)} ${range ?? "whole"}`);
  expect(request.headers.get("authorization")).toBe(`Bearer ${BEARER}`);
  const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(range ?? "") ?? [];
  return answer(request, first === undefined ? null : { first: Number(first), last: Number(last) });
};

async function read(offset: number, bytes: number, from = source): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of from.read(SHA256, { file: 0, offset, bytes }, options)) parts.push(part);
  return Buffer.concat(parts);
}

/** Sends so much and breaks. */
const cutAfter =
  (bytes: number): typeof answer =>
  (request, span) => {
    const whole = right(request, span);
    const reader = whole.body?.getReader();
    let left = bytes;
    const body = new ReadableStream<Uint8Array>({
      pull: async (controller) => {
        const { value } = (await reader?.read()) ?? {};
        if (left <= 0) return controller.error(new Error("the line broke"));
        if (value === undefined) return controller.close();
        controller.enqueue(value.subarray(0, left));
        left -= value.length;
      },
    });
    return new Response(body, { status: whole.status, headers: whole.headers });
  };

describe("a range of weights", () => {
  test("comes as it was asked for, over connections that are kept", async () => {
    const got = await Promise.all([read(0, BYTES), read(1_000, 5_000), read(BYTES - 1, 1)]);
    expect(got[0]?.equals(CONTENT)).toBe(true);
    expect(got[1]?.equals(CONTENT.subarray(1_000, 6_000))).toBe(true);
    expect(got[2]?.equals(CONTENT.subarray(-1))).toBe(true);
    expect(asked.toSorted()).toEqual(
      ["/files/0 bytes=0-1999999", "/files/0 bytes=1000-5999", "/files/0 bytes=1999999-1999999"].toSorted(),
    );
  });

  test("goes on where it was when the line breaks, again and again", async () => {
    let cuts = 0;
    answer = (...of) => (++cuts <= 3 ? cutAfter(300_000)(...of) : right(...of));
    expect((await read(0, BYTES)).equals(CONTENT)).toBe(true);
    expect(asked.length).toBeGreaterThan(3);
    const starts = asked.map((one) => Number(/bytes=(\d+)/.exec(one)?.[1]));
    expect(starts).toEqual(starts.toSorted((a, b) => a - b));
  });

  test("comes when a busy coordinator has time again", async () => {
    answer = (...of) =>
      asked.length < 3 ? new Response(null, { status: 503, headers: { "retry-after": "0" } }) : right(...of);
    expect((await read(0, 10_000)).equals(CONTENT.subarray(0, 10_000))).toBe(true);
    expect(asked).toHaveLength(3);
  });

  test.each([
    [401, "a session that is over"],
    [403, "weights that this node was not told to have"],
    [404, "weights that the grid has no more"],
    [409, "chunks that were not claimed"],
  ])("is refused for good with %d: %s", async (status) => {
    answer = () => new Response("{}", { status });
    await expect(read(0, 10)).rejects.toMatchObject({ code: "weights-unreachable", data: { status } });
    expect(asked).toHaveLength(1);
  });

  test("that was not asked for is not taken", async () => {
    answer = () => new Response("x".repeat(10), { status: 206, headers: { "content-range": `bytes 5-14/${BYTES}` } });
    await expect(read(0, 10)).rejects.toMatchObject({ code: "weights-unreachable" });
  });

  test("ends at the abort", async () => {
    const giveUp = new AbortController();
    const reading = async () => {
      const range = { file: 0, offset: 0, bytes: BYTES };
      for await (const _part of source.read(SHA256, range, { bearer: BEARER, signal: giveUp.signal })) giveUp.abort();
    };
    await expect(reading()).rejects.toMatchObject({ name: "AbortError" });
  });
});

describe("manifest and digests", () => {
  test("come whole, and digests of another count are refused", async () => {
    answer = () => new Response(CONTENT.subarray(0, 64));
    expect(Buffer.from(await source.manifest(SHA256, options)).equals(CONTENT.subarray(0, 64))).toBe(true);
    expect((await source.digests(SHA256, 2, options)).length).toBe(64);
    await expect(source.digests(SHA256, 3, options)).rejects.toMatchObject({ code: "weights-unreachable" });
    expect(asked).toEqual(["/manifest whole", "/digests whole", "/digests whole"]);
  });

  test("without an end are cut at their bound", async () => {
    answer = () =>
      new Response(new ReadableStream({ pull: (controller) => controller.enqueue(new Uint8Array(1_000_000)) }));
    await expect(source.manifest(SHA256, options)).rejects.toMatchObject({ data: { bytesMax: 8 * 1024 * 1024 } });
    await expect(source.digests(SHA256, 2, options)).rejects.toMatchObject({ data: { bytesMax: 64 } });
  });
});

test("nothing is sent to a coordinator with another certificate", async () => {
  const folder = await mkdtemp(join(tmpdir(), "fallow-source-tls-"));
  const identity = await keptTlsIdentity(join(folder, "tls"));
  const secure = await startHttpServer({ host: "0.0.0.0", port: 0, tls: identity, handler, links });
  try {
    const to = (certificateSha256: string) =>
      new HttpWeightsSource({ target: { url: `https://127.0.0.1:${secure.port}`, certificateSha256 } });
    const [wrong, known] = [to("ab".repeat(32)), to(identity.certificateSha256)];
    await expect(read(0, 10, wrong)).rejects.toMatchObject({ code: "link-fingerprint-mismatch" });
    expect(asked).toEqual([]);
    expect((await read(0, BYTES, known)).equals(CONTENT)).toBe(true);
    wrong.close();
    known.close();
  } finally {
    await secure.close(0);
    await rm(folder, { recursive: true, force: true });
  }
});
