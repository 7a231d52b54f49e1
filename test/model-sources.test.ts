/** Where models come from: a hub and plain addresses over real HTTP; what leads elsewhere or lies is refused by name. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer as createHttpServer, request as httpRequest } from "node:http";
import { createServer } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { NetModelSources } from "../src/adapters/model-source/model-sources.ts";
import type { ResolvedAddress } from "../src/adapters/model-source/safe-http.ts";
import { sourceSettings } from "../src/adapters/model-source/source-settings.ts";
import { keptTlsIdentity } from "../src/adapters/tls-identity/tls-identity.ts";
import type { ResolvedSource, SourceFile } from "../src/ports/model-source.ts";
import { type HubServer, startHubServer } from "./support/hub-server.ts";

/** As short as the silence may be on a busy machine, so that what waits for it is soon over. */
const SILENT_MS = 400;
const QUICK = { delaysMs: [1, 1, 1], retryAfterMsMax: 5_000 };

let hub: HubServer;
let folder: string;
beforeEach(async () => {
  hub = await startHubServer();
  folder = mkdtempSync(join(tmpdir(), "fallow-sources-"));
});
afterEach(async () => {
  await hub[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

const signal = () => AbortSignal.timeout(30_000);

function sources(
  environment: Record<string, string> = {},
  resolveHost?: (host: string) => Promise<readonly ResolvedAddress[]>,
): NetModelSources {
  const settings = sourceSettings({
    HF_ENDPOINT: hub.url,
    HF_TOKEN_PATH: join(folder, "no-token"),
    FALLOW_HUB_HOSTS: hub.contentHost,
    ...environment,
  });
  return new NetModelSources({
    settings,
    patience: QUICK,
    silentMsMax: SILENT_MS,
    ...(resolveHost === undefined ? {} : { resolveHost }),
  });
}

/** Bytes that begin as a GGUF does. */
function weights(fill: number, fileBytes = 300_000): Uint8Array {
  const bytes = new Uint8Array(fileBytes).map((_, at) => (at * 31 + fill) & 255);
  bytes.set(Buffer.from("GGUF"));
  return bytes;
}

async function fetched(file: SourceFile | undefined, offset = 0): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  if (file === undefined) throw new Error("a source has a file");
  for await (const part of file.read(offset, signal())) parts.push(part);
  return Buffer.concat(parts);
}

const names = (source: ResolvedSource) => source.files.map(({ name }) => name);
const resolve = (reference: string, environment: Record<string, string> = {}) =>
  sources(environment).resolve(reference, signal());

describe("the hub", () => {
  const MANY = {
    "README.md": Buffer.from("hello"),
    "imatrix-Q4_K_M.gguf": weights(9),
    "mmproj-model-f16.gguf": weights(8),
    "model-Q4_K_M.gguf": weights(1),
    "model-Q8_0.gguf": weights(2),
    "F16/model-f16-00001-of-00002.gguf": weights(3),
    "F16/model-f16-00002-of-00002.gguf": weights(4),
  };

  test("without a choice the usual quantisation is taken and said, at the commit of that moment", async () => {
    hub.put("owner/model", { files: MANY, licence: "apache-2.0" });
    const source = await resolve("hf:owner/model");
    expect(names(source)).toEqual(["model-Q4_K_M.gguf"]);
    expect(source).toMatchObject({
      origin: { kind: "hf", repo: "owner/model", revision: hub.commit, isPrivate: false },
      pinned: `hf:owner/model@${hub.commit}:model-Q4_K_M.gguf`,
      suggestedId: "model-q4_k_m",
      licence: "apache-2.0",
    });
    expect(source.chosen).toMatch(/model-Q4_K_M\.gguf is taken/);
    expect(await fetched(source.files[0])).toEqual(Buffer.from(MANY["model-Q4_K_M.gguf"]));
  });

  test.each([
    ["q8_0", ["model-Q8_0.gguf"]],
    ["model-Q8_0.gguf", ["model-Q8_0.gguf"]],
    ["f16", ["model-f16-00001-of-00002.gguf", "model-f16-00002-of-00002.gguf"]],
    ["F16/model-f16-00002-of-00002.gguf", ["model-f16-00001-of-00002.gguf", "model-f16-00002-of-00002.gguf"]],
  ])("%s names a quantisation or a file, and a split set is one", async (selector, expected) => {
    hub.put("owner/model", { files: MANY });
    const source = await resolve(`hf:owner/model@v1.0:${selector}`);
    expect(names(source)).toEqual(expected);
    expect(source.chosen).toBe(null);
    const again = await resolve(source.pinned);
    expect(names(again)).toEqual(expected);
  });

  test("pages of the hub's site and other tools' short names mean the same", async () => {
    hub.put("owner/model", { files: MANY });
    for (const text of [`${hub.url}/owner/model/blob/main/model-Q8_0.gguf`, "hf.co/owner/model:Q8_0"]) {
      expect(names(await resolve(text)), text).toEqual(["model-Q8_0.gguf"]);
    }
  });

  test("where nothing is usual, or two fit, the refusal lists what there is", async () => {
    hub.put("owner/odd", { files: { "a-IQ1_S.gguf": weights(1), "b-IQ1_S.gguf": weights(2) } });
    await expect(resolve("hf:owner/odd")).rejects.toThrow(/name one of a-IQ1_S\.gguf \(IQ1_S\), b-IQ1_S\.gguf/);
    await expect(resolve("hf:owner/odd:IQ1_S")).rejects.toMatchObject({ code: "model-source-invalid" });
    await expect(resolve("hf:owner/odd:Q4_K_M")).rejects.toThrow(/no file or quantisation Q4_K_M; it has a-IQ1_S/);
    hub.put("owner/half", { files: { "m-00001-of-00003.gguf": weights(1), "m-00003-of-00003.gguf": weights(1) } });
    await expect(resolve("hf:owner/half")).rejects.toThrow(/lacks m-00002-of-00003\.gguf/);
    hub.put("owner/none", { files: { "model.safetensors": weights(1), "mmproj-f16.gguf": weights(1) } });
    await expect(resolve("hf:owner/none")).rejects.toThrow(/no GGUF file/);
  });

  test("the token opens private and gated models, and never leaves the hub's own host", async () => {
    hub.put("owner/private", { files: { "m-Q8_0.gguf": weights(1) }, isPrivate: true });
    hub.put("owner/gated", { files: { "m-Q8_0.gguf": weights(2) }, isGated: true });
    await expect(resolve("hf:owner/private")).rejects.toMatchObject({
      code: "model-source-refused",
      message: expect.stringMatching(/Repository not found.*HF_TOKEN/),
    });
    const closed = await resolve("hf:owner/gated");
    await expect(fetched(closed.files[0])).rejects.toThrow(/is restricted.*accept its terms at .*owner\/gated/);
    for (const repo of ["private", "gated"]) {
      const open = await resolve(`hf:owner/${repo}`, { HF_TOKEN: hub.token });
      expect(open.origin).toMatchObject({ isPrivate: true });
      expect(await fetched(open.files[0])).toHaveLength(300_000);
    }
    const sent = hub.requests.filter(({ authorization }) => authorization !== null);
    expect(sent.length).toBeGreaterThan(0);
    expect(sent.every(({ at }) => at === "hub")).toBe(true);
  });

  test("an unknown revision and an unknown model are refused with the hub's words", async () => {
    hub.put("owner/model", { files: MANY });
    await expect(resolve("hf:owner/model@nowhere")).rejects.toThrow(/Invalid rev id.*no such branch/);
    await expect(resolve("hf:owner/other")).rejects.toThrow(/there is no model owner\/other/);
  });

  test("a redirect to a host that is not the hub's is refused with both names", async () => {
    hub.put("owner/model", { files: MANY });
    const source = await resolve("hf:owner/model");
    hub.plans.push({ kind: "redirect", to: "https://elsewhere.example/file" });
    await expect(fetched(source.files[0])).rejects.toMatchObject({
      code: "model-source-unsafe",
      message: expect.stringMatching(/127\.0\.0\.1:\d+ leads to elsewhere\.example.*FALLOW_HUB_HOSTS/),
    });
    const unlisted = await resolve("hf:owner/model", { FALLOW_HUB_HOSTS: "" });
    await expect(fetched(unlisted.files[0])).rejects.toMatchObject({ code: "model-source-unsafe" });
  });
});

describe("bytes", () => {
  const file = weights(5, 900_000);
  beforeEach(() => hub.put("owner/model", { files: { "m-Q8_0.gguf": file } }));
  const open = async () => (await resolve("hf:owner/model")).files[0];

  test("a connection that is cut costs a request and no bytes", async () => {
    hub.plans.push({ kind: "cut", afterBytes: 200_000 }, { kind: "cut", afterBytes: 300_000 });
    expect(await fetched(await open())).toEqual(Buffer.from(file));
    expect(hub.bytesSent()).toBe(900_000);
    const ranges = hub.requests.filter(({ at }) => at === "content").map(({ range }) => range);
    expect(ranges).toEqual([null, "bytes=200000-", "bytes=500000-"]);
  });

  test("a download goes on where it was, also from a server that ignores ranges", async () => {
    expect(await fetched(await open(), 899_990)).toEqual(Buffer.from(file.subarray(899_990)));
    hub.plans.push({ kind: "ignore-range" });
    expect(await fetched(await open(), 500_000)).toEqual(Buffer.from(file.subarray(500_000)));
  });

  test("a busy hub is waited for as long as it asks, and given up when that is too long", async () => {
    hub.plans.push({ kind: "status", status: 503 }, { kind: "status", status: 429, headers: { "retry-after": "1" } });
    const waits: string[] = [];
    const source = await open();
    let bytes = 0;
    for await (const part of source?.read(0, signal(), (why) => waits.push(why)) ?? []) bytes += part.length;
    expect(bytes).toBe(900_000);
    expect(waits).toEqual([
      expect.stringMatching(/answers 503; trying again in 1 s/),
      expect.stringMatching(/answers 429; trying again in 1 s/),
    ]);
    hub.plans.push({ kind: "status", status: 429, headers: { ratelimit: '"resolvers";r=0;t=3600' } });
    await expect(fetched(source)).rejects.toMatchObject({ code: "model-source-unreachable" });
  });

  test("a name without an address is said to be one, each try is told, and it is given up", async () => {
    const nowhere = Object.assign(new Error("getaddrinfo ENOTFOUND"), { code: "ENOTFOUND" });
    const lost = sources({}, () => Promise.reject(nowhere));
    const waits: string[] = [];
    const looking = { isFirst: true, onWait: (why: string) => void waits.push(why) };
    await expect(lost.resolve("https://no-such-host.example/m.gguf", signal(), looking)).rejects.toMatchObject({
      code: "model-source-unreachable",
      message: expect.stringMatching(
        /^no address is known for the name no-such-host\.example \(ENOTFOUND\).*given up after \d tries$/,
      ),
    });
    expect(waits.length).toBeGreaterThan(0);
    for (const why of waits) expect(why).toMatch(/ENOTFOUND.*trying again in \d+ s/);
  });

  test.each([
    ["silence", { kind: "hold", afterBytes: 1_000 }],
    ["a drip", { kind: "drip" }],
  ] as const)("%s is a cut: the download goes on over another connection", async (_name, plan) => {
    hub.plans.push(plan);
    expect(await fetched(await open())).toEqual(Buffer.from(file));
  });

  test.each([
    ["a page by its type", { kind: "page", type: "text/html; charset=utf-8" }, "model-source-refused", /web page/],
    ["a page without a type", { kind: "page", type: "application/octet-stream" }, "model-source-refused", /web page/],
    ["another size", { kind: "other-size", fileBytes: 800_000 }, "model-source-changed", /800000 bytes, not 900000/],
    ["more bytes than there are", { kind: "endless" }, "model-source-refused", /more than the 900000 bytes/],
    [
      "a status that says no",
      { kind: "status", status: 403, body: "no" },
      "model-source-refused",
      /answers 403 \(no\)/,
    ],
  ] as const)("%s is refused by name", async (_name, plan, code, why) => {
    hub.plans.push(plan);
    await expect(fetched(await open())).rejects.toMatchObject({ code, message: expect.stringMatching(why) });
  });

  test("an abort ends it at once", async () => {
    const stop = new AbortController();
    hub.plans.push({ kind: "hold", afterBytes: 1_000 });
    const source = await open();
    const reading = (async () => {
      for await (const part of source?.read(0, stop.signal) ?? []) if (part.length > 0) stop.abort(new Error("enough"));
    })();
    await expect(reading).rejects.toThrow("enough");
  });
});

describe("a plain address", () => {
  const LISTED = () => ({ FALLOW_PRIVATE_SOURCES: hub.contentHost });

  test("is read by its entity tag: a file that changed under a download is told", async () => {
    hub.putPlain("/models/Some.Q8_0.gguf", weights(1));
    const source = await resolve(`${hub.contentUrl}/models/Some.Q8_0.gguf?key=secret`, LISTED());
    expect(source.origin).toEqual({ kind: "https", url: `${hub.contentUrl}/models/Some.Q8_0.gguf` });
    expect(source.suggestedId).toBe("some.q8_0");
    expect(await fetched(source.files[0])).toEqual(Buffer.from(weights(1)));
    hub.putPlain("/models/Some.Q8_0.gguf", weights(2));
    await expect(fetched(source.files[0], 1_000)).rejects.toMatchObject({ code: "model-source-changed" });
  });

  test("of a split set's first file means the set; digests are given for each", async () => {
    const paths = ["/s/m-00001-of-00002.gguf", "/s/m-00002-of-00002.gguf"] as const;
    for (const [at, path] of paths.entries()) hub.putPlain(path, weights(at));
    const digest = "ab".repeat(32);
    const source = await resolve(`${hub.contentUrl}${paths[0]}#sha256=${digest},${digest}`, LISTED());
    expect(source.files.map(({ name, sha256 }) => [name, sha256])).toEqual([
      ["m-00001-of-00002.gguf", digest],
      ["m-00002-of-00002.gguf", digest],
    ]);
    await expect(resolve(`${hub.contentUrl}${paths[1]}`, LISTED())).rejects.toThrow(/file 2 of a set: name the first/);
    await expect(resolve(`${hub.contentUrl}${paths[0]}#sha256=${digest}`, LISTED())).rejects.toThrow(
      /2 files.*1 digests/,
    );
  });

  test("a redirect to another host is refused with both names, and how to go on", async () => {
    hub.putPlain("/m.gguf", weights(1));
    hub.plans.push({ kind: "redirect", to: "https://cdn.example/m.gguf?signature=x" });
    await expect(resolve(`${hub.contentUrl}/m.gguf`, LISTED())).rejects.toMatchObject({
      code: "model-source-unsafe",
      message: expect.stringMatching(
        /localhost:\d+ leads to another host, cdn\.example: .* add https:\/\/cdn\.example\/m\.gguf instead/,
      ),
    });
  });

  test("a page, a text and a server that tells no length are refused before anything is fetched", async () => {
    hub.putPlain("/m.gguf", weights(1));
    hub.plans.push({ kind: "page", type: "text/plain" });
    await expect(resolve(`${hub.contentUrl}/m.gguf`)).rejects.toThrow(/web page instead of a file/);
    hub.plans.push({ kind: "endless" });
    await expect(resolve(`${hub.contentUrl}/m.gguf`)).rejects.toThrow(/does not tell how long/);
    hub.putPlain("/text.gguf", Buffer.from("In the beginning"));
    await expect(resolve(`${hub.contentUrl}/text.gguf`)).rejects.toThrow(/no GGUF file: it begins with/);
  });

  test("a name that resolves to a private address is refused, whatever else it resolves to, unless it is listed", async () => {
    hub.putPlain("/m.gguf", weights(1));
    const port = hub.contentHost.split(":")[1];
    const named = `http://models.example:${port}/m.gguf`;
    const both = () =>
      Promise.resolve([
        { address: "93.184.216.34", family: 4 },
        { address: "127.0.0.1", family: 4 },
      ]);
    const secure = sources({}, both).resolve(`https://models.example:${port}/m.gguf`, signal());
    await expect(secure).rejects.toMatchObject({
      code: "model-source-unsafe",
      message: expect.stringMatching(/models\.example is 127\.0\.0\.1, a private address.*FALLOW_PRIVATE_SOURCES/),
    });
    await expect(sources({}, both).resolve(named, signal())).rejects.toThrow(/plain HTTP/);
    const one = () => Promise.resolve([{ address: "127.0.0.1", family: 4 }]);
    const listed = sources({ FALLOW_PRIVATE_SOURCES: `models.example:${port}` }, one);
    expect(names(await listed.resolve(named, signal()))).toEqual(["m.gguf"]);
  });

  test("the metadata service is refused even when it is named and listed", async () => {
    const listed = { FALLOW_PRIVATE_SOURCES: "169.254.169.254,metadata.example" };
    await expect(resolve("http://169.254.169.254/latest/m.gguf", listed)).rejects.toMatchObject({
      code: "model-source-unsafe",
    });
    const metadata = () => Promise.resolve([{ address: "169.254.169.254", family: 4 }]);
    const named = sources(listed, metadata).resolve("http://metadata.example/m.gguf", signal());
    await expect(named).rejects.toThrow(/no model may come from/);
  });
});

describe("the way there", () => {
  test("is TLS whose certificate counts: one that nobody vouches for is refused, and no second try is made", async () => {
    const identity = await keptTlsIdentity(join(folder, "tls"), ["localhost"]);
    let requests = 0;
    const secure = createServer(
      { cert: identity.certificatePem, key: identity.privateKeyPem },
      (_request, response) => {
        requests++;
        response.writeHead(200, { "content-length": 300_000, etag: '"1"' }).end(weights(1));
      },
    );
    await new Promise<void>((ready) => secure.listen(0, "127.0.0.1", ready));
    try {
      const address = secure.address();
      const reference = `https://localhost:${typeof address === "object" ? address?.port : 0}/m.gguf`;
      const settings = sourceSettings({ HF_TOKEN_PATH: join(folder, "no-token") });
      const trusting = new NetModelSources({ settings, patience: QUICK, ca: [identity.certificatePem] });
      expect(await fetched((await trusting.resolve(reference, signal())).files[0])).toHaveLength(300_000);
      const before = requests;
      await expect(resolve(reference)).rejects.toMatchObject({
        code: "model-source-unreachable",
        message: expect.stringMatching(/certificate of localhost:\d+ is not trusted/),
      });
      expect(requests).toBe(before);
    } finally {
      secure.closeAllConnections();
      await new Promise((done) => secure.close(done));
    }
  });

  test("goes through the proxy of the environment, except to hosts that are exempt", async () => {
    hub.put("owner/model", { files: { "m-Q8_0.gguf": weights(1) } });
    const asked: string[] = [];
    const proxy = createHttpServer((request, response) => {
      asked.push(request.url ?? "");
      const onward = httpRequest(request.url ?? "", { headers: request.headers }, (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(response);
      });
      onward.end();
    });
    await new Promise<void>((ready) => proxy.listen(0, "127.0.0.1", ready));
    try {
      const address = proxy.address();
      const HTTP_PROXY = `http://127.0.0.1:${typeof address === "object" ? address?.port : 0}`;
      const source = await resolve("hf:owner/model", { HTTP_PROXY, NO_PROXY: "localhost" });
      expect(await fetched(source.files[0])).toHaveLength(300_000);
      expect(asked.length).toBe(3);
      expect(asked.every((url) => url.startsWith(hub.url))).toBe(true);
    } finally {
      proxy.closeAllConnections();
      await new Promise((done) => proxy.close(done));
    }
  });
});

test("the token is taken from the environment, else from the file that the hub's own tool writes", () => {
  writeFileSync(join(folder, "token"), "hf_from_file\n");
  expect(sourceSettings({ HF_HOME: folder }).token).toBe("hf_from_file");
  expect(sourceSettings({ HF_HOME: folder, HF_TOKEN: "hf_named" }).token).toBe("hf_named");
  expect(sourceSettings({ HF_HOME: join(folder, "nothing") }).token).toBe(null);
  expect(() => sourceSettings({ HF_ENDPOINT: "not an address" })).toThrow(/HF_ENDPOINT is not an address/);
});
