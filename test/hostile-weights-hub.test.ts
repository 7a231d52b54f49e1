/** A hub, or a server of models, that means harm: what it lists, where it leads and what it sends is refused by name, and bounded. */
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { SystemClock } from "../src/adapters/clock-system/system-clock.ts";
import { SystemRandom } from "../src/adapters/clock-system/system-random.ts";
import { NodeCrypto } from "../src/adapters/crypto-node/node-crypto.ts";
import { engineEnvironment } from "../src/adapters/engine-llama/child-environment.ts";
import { DiskIncomingModels } from "../src/adapters/model-files-disk/disk-incoming-models.ts";
import { DiskModelFiles } from "../src/adapters/model-files-disk/disk-model-files.ts";
import { NetModelSources } from "../src/adapters/model-source/model-sources.ts";
import type { ResolvedAddress } from "../src/adapters/model-source/safe-http.ts";
import { sourceSettings } from "../src/adapters/model-source/source-settings.ts";
import { LlamaTokenizerHost } from "../src/adapters/tokenizer-llama/tokenizer-host.ts";
import { ModelCatalogue } from "../src/coordinator/models/model-catalogue.ts";
import { ModelIntake } from "../src/coordinator/models/model-intake.ts";
import { fileNameProblem } from "../src/domain/weights-file-name.ts";
import type { ResolvedSource } from "../src/ports/model-source.ts";
import { simLog } from "../src/sim/sim-log.ts";
import { MemoryStore } from "../src/sim/store/memory-store.ts";
import { TINY_PATH } from "./support/engine-fixture.ts";
import { startHubServer } from "./support/hub-server.ts";

const SILENT_MS = 1_000;
const COMMIT = "0123456789abcdef0123456789abcdef01234567";
const signal = () => AbortSignal.timeout(30_000);

let folder: string;
const toStop: (() => unknown)[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "fallow-hostile-hub-"));
});
afterEach(async () => {
  for (const stop of toStop.splice(0).reverse()) await stop();
  rmSync(folder, { recursive: true });
});

describe("a file's name in a hub's list", () => {
  test.each([
    ["leads out of its folder", "../../../evil-Q8_0.gguf"],
    ["leads out of its folder from within", "a/../../../../evil-Q8_0.gguf"],
    ["leads out as Windows writes it", "..\\..\\evil-Q8_0.gguf"],
    ["has a line break", "m\n-Q8_0.gguf"],
  ])("that %s is refused by name, and nothing is written outside the home", async (_, path) => {
    const { home, job } = await brought(path);
    expect(job).toMatchObject({ state: "failed", error: { code: expect.stringMatching(/^(model-source-|invalid-)/) } });
    expect(readdirSync(folder)).toEqual(["home"]);
    expect(readdirSync(home, { recursive: true }).sort()).toEqual(["models", join("models", "incoming")]);
    expect(existsSync(join(folder, "..", "evil-Q8_0.gguf"))).toBe(false);
  });

  test.each([
    ["names a stream of NTFS", "evil.txt:m-Q8_0.gguf"],
    ["names a device", "nul.gguf"],
    ["hides", ".evil-Q8_0.gguf"],
    ["is longer than names may be", `${"m".repeat(250)}-Q8_0.gguf`],
  ])("that %s is nowhere on the disk, nor in what is signed", async (_, path) => {
    const { home, job } = await brought(path);
    expect(job).toMatchObject({ state: "done" });
    const files = readdirSync(home, { recursive: true }).map(String);
    expect(files.filter((name) => name.endsWith(path) || name.includes("evil"))).toEqual([]);
    const signed = files
      .filter((name) => name.includes("manifest"))
      .map((name) => readFileSync(join(home, name), "utf8"));
    expect(signed).toHaveLength(1);
    const { manifestJson } = JSON.parse(signed[0] ?? "");
    for (const { name } of JSON.parse(manifestJson).files) expect(fileNameProblem(name)).toBeNull();
  });
});

async function brought(path: string) {
  const hub = await startHubServer();
  toStop.push(() => hub[Symbol.asyncDispose]());
  hub.put("owner/evil", { files: { [path]: readFileSync(TINY_PATH) } });
  const home = join(folder, "home");
  return { home, job: await broughtInto(home, { hub: hub.url, contentHost: hub.contentHost }) };
}

/** A job for `hf:owner/evil`, at rest. */
async function broughtInto(home: string, at: { readonly hub: string; readonly contentHost: string }) {
  const [clock, crypto, random, log] = [
    new SystemClock(),
    new NodeCrypto(),
    new SystemRandom(),
    simLog(() => undefined),
  ];
  const gridKey = crypto.generateKeyPair();
  const store = new MemoryStore({ writeLatencyMs: 0 }, { clock });
  const tokenizers = new LlamaTokenizerHost({ libraryDirectory: null, environment: engineEnvironment(process.env) });
  toStop.push(() => tokenizers.close());
  const kept = join(home, "models");
  const modelFiles = new DiskModelFiles({ folder: kept, bundled: [] });
  const catalogue = new ModelCatalogue({ store, tokenizers, modelFiles, crypto, gridKey, clock, log });
  const settings = sourceSettings({
    HF_ENDPOINT: at.hub,
    HF_TOKEN_PATH: join(folder, "no-token"),
    FALLOW_HUB_HOSTS: at.contentHost,
  });
  const sources = new NetModelSources({ settings, patience: { delaysMs: [1], retryAfterMsMax: 1_000 } });
  const incoming = new DiskIncomingModels({ folder: join(kept, "incoming"), headroomBytes: 0 });
  const intake = new ModelIntake({ sources, incoming, modelFiles, catalogue, crypto, gridKey, clock, random, log });
  toStop.push(() => intake.stop());
  await catalogue.start();
  await intake.start();
  const job = await intake.add({ reference: "hf:owner/evil", terms: {} });
  if (!job.ok) throw new Error(job.reason.message);
  return await intake.whenResting(job.value.jobId, signal());
}

type Answer = (request: IncomingMessage, response: ServerResponse) => void;

async function serving(answer: Answer): Promise<{ readonly port: number; readonly server: Server }> {
  const server = createServer(answer);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  toStop.push(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("a TCP server has a port");
  return { port: address.port, server };
}

function sources(environment: Record<string, string>, resolveHost?: (host: string) => Promise<ResolvedAddress[]>) {
  return new NetModelSources({
    settings: sourceSettings({ HF_TOKEN_PATH: join(folder, "no-token"), ...environment }),
    patience: { delaysMs: [1, 1], retryAfterMsMax: 1_000 },
    silentMsMax: SILENT_MS,
    ...(resolveHost === undefined ? {} : { resolveHost }),
  });
}

/** Reads the first file of a source to its end. */
async function fetched({ files }: ResolvedSource): Promise<void> {
  for await (const bytes of files[0]?.read(0, signal()) ?? []) expect(bytes.length).toBeGreaterThan(0);
}

/** What becomes of a model at a plain address of a server that the operator named and trusts to be private. */
async function plain(answer: Answer): Promise<unknown> {
  const { port } = await serving(answer);
  const host = `localhost:${port}`;
  const known = async () => [{ address: "127.0.0.1", family: 4 }];
  return await sources({ FALLOW_PRIVATE_SOURCES: host }, known)
    .resolve(`http://${host}/m-Q8_0.gguf`, signal())
    .catch((fault: unknown) => fault);
}

describe("a server that leads on", () => {
  test.each([
    "http://[::ffff:169.254.169.254]/latest/meta-data",
    "http://[::ffff:a9fe:a9fe]/latest/meta-data",
    "http://169.254.169.254/latest/meta-data",
    "http://[::ffff:127.0.0.1]/m.gguf",
    "http://0x7f000001/m.gguf",
    "http://2130706433/m.gguf",
    "http://127.1/m.gguf",
    "http://[::1]/m.gguf",
    "https://10.0.0.1/m.gguf",
    "http://localhost/m.gguf",
    "file:///etc/passwd",
    "gopher://localhost/",
    "data:application/octet-stream,GGUF",
    "//elsewhere.example/m.gguf",
  ])("to %s is refused by name", async (to) => {
    expect(await plain((_, response) => response.writeHead(302, { location: to }).end())).toMatchObject({
      code: "model-source-unsafe",
    });
  });

  test("round and round is refused after a few steps", async () => {
    let asked = 0;
    const fault = await plain((_, response) => response.writeHead(302, { location: `/m.gguf?${++asked}` }).end());
    expect(fault).toMatchObject({ code: "model-source-refused", message: /leads round/ });
    expect(asked).toBeLessThan(10);
  });

  test("a listed host to a metadata service, by a name that means it, is refused", async () => {
    const { port } = await serving((request, response) => {
      if (request.url?.includes("/api/") === true) return hubAnswer(request, response);
      response.writeHead(302, { location: "http://cdn.example/m.gguf" }).end();
    });
    const resolveHost = async (host: string) =>
      host === "cdn.example"
        ? [{ address: "::ffff:169.254.169.254", family: 6 }]
        : [{ address: "127.0.0.1", family: 4 }];
    const environment = { HF_ENDPOINT: `http://hub.test:${port}`, FALLOW_HUB_HOSTS: "cdn.example" };
    const source = await sources(environment, resolveHost).resolve("hf:owner/evil", signal());
    await expect(fetched(source)).rejects.toMatchObject({ code: "model-source-unsafe" });
  });

  test("another host does not get the token, nor does the first one when it is led back to", async () => {
    const authorised: (string | undefined)[] = [];
    const other = await serving((request, response) => {
      authorised.push(request.headers.authorization);
      response.writeHead(302, { location: `http://hub.test:${hub.port}/back` }).end();
    });
    const hub = await serving((request, response) => {
      if (request.url?.includes("/api/") === true) return hubAnswer(request, response);
      if (request.url === "/back") {
        authorised.push(request.headers.authorization);
        response.writeHead(404).end();
      } else response.writeHead(302, { location: `http://cdn.test:${other.port}/m.gguf` }).end();
    });
    const resolveHost = async () => [{ address: "127.0.0.1", family: 4 }];
    const source = await sources(
      {
        HF_ENDPOINT: `http://hub.test:${hub.port}`,
        FALLOW_HUB_HOSTS: `cdn.test:${other.port}`,
        FALLOW_PRIVATE_SOURCES: `cdn.test:${other.port}`,
        HF_TOKEN: "hf_secret",
      },
      resolveHost,
    ).resolve("hf:owner/evil", signal());
    await fetched(source).catch(() => undefined);
    expect(authorised).toEqual([undefined, undefined]);
  });
});

describe("a server that sends", () => {
  test("coded bytes that nobody asked for is refused before they are opened", async () => {
    const bomb = gzipSync(Buffer.alloc(8 * 1024 * 1024));
    const fault = await plain((_, response) => response.writeHead(200, { "content-encoding": "gzip" }).end(bomb));
    expect(fault).toMatchObject({ code: "model-source-refused", message: /gzip-coded/ });
  });

  test("heads without end, or only signs of life, is given up", async () => {
    const long = await plain((_, response) => {
      response.socket?.write(`HTTP/1.1 200 OK\r\n${"x-pad: 0123456789abcdef\r\n".repeat(100_000)}`);
    });
    expect(long).toMatchObject({ code: "model-source-unreachable" });
    const slow = await plain((_, response) => {
      const timer = setInterval(() => response.writeProcessing(), 10);
      response.on("close", () => clearInterval(timer));
    });
    expect(slow).toMatchObject({ code: "model-source-unreachable" });
  });

  test("a list of files without end is read to a bound", async () => {
    let pages = 0;
    const { port } = await serving((request, response) => {
      if (request.url?.includes("/tree/") !== true) return hubAnswer(request, response);
      pages += 1;
      const next = `<http://hub.test${request.url.split("?")[0]}?recursive=true&cursor=${pages}>; rel="next"`;
      const entries = [{ type: "file", path: `f${pages}-Q8_0.gguf`, oid: "0", size: 4 }];
      response.writeHead(200, { "content-type": "application/json", link: next }).end(JSON.stringify(entries));
    });
    const fault = await sources({ HF_ENDPOINT: `http://127.0.0.1:${port}` })
      .resolve("hf:owner/evil", signal())
      .catch((thrown: unknown) => thrown);
    expect(fault).toMatchObject({ code: "model-source-invalid" });
    expect(pages).toBe(20);
  });

  test.each([
    ["too long", () => Buffer.alloc(16 * 1024 * 1024, "[")],
    ["deep", () => Buffer.from(`${"[".repeat(1_000_000)}${"]".repeat(1_000_000)}`)],
    ["of other fields", () => Buffer.from('{"sha": "../../etc/passwd"}')],
    ["a page", () => Buffer.from("<!doctype html><title>Log in</title>")],
  ])("facts that are %s is refused", async (_, body) => {
    const { port } = await serving((_request, response) => response.writeHead(200).end(body()));
    const fault = await sources({ HF_ENDPOINT: `http://127.0.0.1:${port}` })
      .resolve("hf:owner/evil", signal())
      .catch((thrown: unknown) => thrown);
    expect(fault).toMatchObject({ code: "model-source-refused" });
  });
});

/** The hub's own answers for a repository with one file. */
function hubAnswer(request: IncomingMessage, response: ServerResponse): void {
  const entry = { type: "file", path: "m-Q8_0.gguf", oid: "0", size: 100 };
  const body = request.url?.includes("/tree/") === true ? [entry] : { sha: COMMIT, private: false, gated: false };
  response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(body));
}
