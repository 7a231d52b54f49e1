/**
 * A package registry on this machine that holds one package, for suites that let the real npm install it. It can stop in the middle
 * of an archive.
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ENGINE_PACKAGE_VERSION, type PinnedPackage } from "../../src/adapters/engine-variants/pinned-packages.ts";

export interface PackageServer extends AsyncDisposable {
  readonly pin: PinnedPackage;
  /** For npm: this registry, a cache of its own, no second tries. */
  readonly environment: Readonly<Record<string, string>>;
  /** Archives that were asked for. */
  readonly downloads: () => number;
  /** The metadata names another digest than the archive's, as somebody who replaced the archive would. */
  claim(integrity: string): void;
  /** From here on archives break off in the middle and stay silent; resolves when one did. */
  stall(): Promise<void>;
  /** Ends the silence: archives come whole again. */
  resume(): void;
}

const NAME = "linux-x64-vulkan";
/** Large enough to be cut. */
const LIBRARY_BYTES = 300_000;

export async function startPackageServer(): Promise<PackageServer> {
  const folder = mkdtempSync(join(tmpdir(), "fallow-packages-"));
  const archive = packEngine(folder);
  const integrity = `sha512-${createHash("sha512").update(archive).digest("base64")}`;
  let downloads = 0;
  let claimed = integrity;
  let onStall: (() => void) | null = null;
  const server = createServer((request, response) => {
    const base = `http://${request.headers.host}`;
    const path = decodeURIComponent(request.url ?? "");
    if (path === "/archive.tgz") {
      downloads++;
      response.writeHead(200, { "content-length": archive.length });
      if (onStall === null) return response.end(archive);
      return response.write(archive.subarray(0, archive.length / 2), () => onStall?.());
    }
    if (path !== `/@node-llama-cpp/${NAME}`) return response.writeHead(404).end("{}");
    const version = { name: `@node-llama-cpp/${NAME}`, version: ENGINE_PACKAGE_VERSION };
    const dist = { tarball: `${base}/archive.tgz`, integrity: claimed };
    const versions = { [ENGINE_PACKAGE_VERSION]: { ...version, dist } };
    response.writeHead(200, { "content-type": "application/json" });
    return response.end(JSON.stringify({ name: version.name, "dist-tags": {}, versions }));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("a TCP server has a port");
  return {
    pin: {
      variant: "vulkan",
      platform: process.platform,
      arch: process.arch,
      name: NAME,
      version: ENGINE_PACKAGE_VERSION,
      integrity,
      downloadBytes: archive.length,
      unpackedBytes: 3 * LIBRARY_BYTES,
    },
    environment: {
      npm_config_registry: `http://127.0.0.1:${address.port}/`,
      npm_config_cache: join(folder, "cache"),
      npm_config_fetch_retries: "0",
    },
    downloads: () => downloads,
    claim: (other) => {
      claimed = other;
    },
    stall: () => new Promise((resolve) => (onStall = resolve)),
    resume: () => {
      onStall = null;
      server.closeAllConnections();
    },
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** An archive with the files that the engine is found by; their content does not matter here, and does not compress. */
function packEngine(folder: string): Buffer {
  const source = join(folder, "source");
  const bins = join(source, "bins", NAME);
  mkdirSync(bins, { recursive: true });
  const noise = Buffer.from(
    Array.from({ length: LIBRARY_BYTES }, (_, at) => (Math.imul(at, 2_654_435_761) >>> 13) & 255),
  );
  for (const name of ["libllama.vulkan.v0.5.0.so", "libggml.vulkan.v0.5.0.so", "libggml-base.so"]) {
    writeFileSync(join(bins, name), noise);
  }
  const manifest = { name: `@node-llama-cpp/${NAME}`, version: ENGINE_PACKAGE_VERSION, files: ["bins"] };
  writeFileSync(join(source, "package.json"), JSON.stringify(manifest));
  execFileSync("tar", [
    "-czf",
    join(folder, "archive.tgz"),
    "-C",
    folder,
    "--transform",
    "s/^source/package/",
    "source",
  ]);
  return readFileSync(join(folder, "archive.tgz"));
}
