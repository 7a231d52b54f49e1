/** Engine variants on demand, fetched by the real npm from a registry on this machine. */
import { mkdir, mkdtemp, readdir, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { PINNED_PACKAGES, type PinnedPackage } from "../src/adapters/engine-variants/pinned-packages.ts";
import { type InstallProgress, VariantFolder } from "../src/adapters/engine-variants/variant-folder.ts";
import { launchFallow, makeHome, removeHome, runFallow, startGrid } from "./support/grid.ts";
import { type PackageServer, startPackageServer } from "./support/package-server.ts";

const NOTHING_LEFT = ["install.lock"];
const PLACE = "vulkan-3.22.1";

let folder: string;
let server: PackageServer;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "fallow-engines-"));
  server = await startPackageServer();
});
afterEach(async () => {
  await server[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

function variants(change: { pin?: Partial<PinnedPackage>; environment?: Record<string, string | undefined> } = {}) {
  const environment = { ...process.env, ...server.environment, ...change.environment };
  return new VariantFolder({ folder, packages: [{ ...server.pin, ...change.pin }], environment });
}

const never = () => new AbortController().signal;

describe("an engine variant", () => {
  test("is fetched once, with progress, and found from then on", async () => {
    const progress: InstallProgress[] = [];
    expect(await variants().find("vulkan")).toBeNull();
    const place = await variants().install("vulkan", { signal: never(), onProgress: (each) => progress.push(each) });
    expect((await readdir(place)).sort()).toContain("libllama.vulkan.v0.5.0.so");
    expect(await variants().find("vulkan")).toBe(place);
    expect(await variants().install("vulkan", { signal: never() })).toBe(place);
    expect(server.downloads()).toBe(1);
    expect(progress.at(-1)).toEqual({ bytes: server.pin.unpackedBytes, bytesTotal: server.pin.unpackedBytes });
    expect(await readdir(folder)).toEqual([...NOTHING_LEFT, PLACE]);
  });

  test.each([
    ["the registry's metadata says so", false],
    ["its metadata claims the pinned one", true],
  ])("whose archive has another digest than the pinned one is refused where %s", async (_, isClaimed) => {
    const integrity = `sha512-${Buffer.alloc(64, 1).toString("base64")}`;
    if (isClaimed) server.claim(integrity);
    const altered = variants({ pin: { integrity } });
    await expect(altered.install("vulkan", { signal: never() })).rejects.toMatchObject({
      code: "engine-integrity-mismatch",
      message: expect.stringContaining("@node-llama-cpp/linux-x64-vulkan@3.22.1 does not have the digest"),
    });
    expect(server.downloads() > 0).toBe(isClaimed);
    expect(await readdir(folder)).toEqual(NOTHING_LEFT);
    expect(await altered.find("vulkan")).toBeNull();
  });

  test("that was installed against another digest is not taken for this one", async () => {
    await variants().install("vulkan", { signal: never() });
    expect(await variants({ pin: { integrity: "sha512-other" } }).find("vulkan")).toBeNull();
  });

  test("is stopped in the middle of its download without a trace, and comes whole the next time", async () => {
    const stop = new AbortController();
    const stalled = server.stall().then(() => stop.abort());
    await expect(variants().install("vulkan", { signal: stop.signal })).rejects.toMatchObject({ code: "aborted" });
    await stalled;
    expect(await readdir(folder)).toEqual(NOTHING_LEFT);
    server.resume();
    expect(await variants().install("vulkan", { signal: never() })).toContain(PLACE);
  });

  test("that lost the end of a file counts as absent and is installed again", async () => {
    const place = await variants().install("vulkan", { signal: never() });
    await truncate(join(place, "libggml-base.so"), 10);
    expect(await variants().find("vulkan")).toBeNull();
    expect(await variants().install("vulkan", { signal: never() })).toBe(place);
    expect(await variants().find("vulkan")).toBe(place);
  });

  test("is installed once by two who want it at the same time", async () => {
    const places = await Promise.all([1, 2].map(() => variants().install("vulkan", { signal: never() })));
    expect(new Set(places).size).toBe(1);
    expect(server.downloads()).toBe(1);
  });

  test("is removed, once", async () => {
    await variants().install("vulkan", { signal: never() });
    expect(await variants().remove("vulkan")).toBe(true);
    expect(await variants().remove("vulkan")).toBe(false);
    expect(await readdir(folder)).toEqual(NOTHING_LEFT);
  });

  test("that does not fit on the disk is refused before anything is fetched", async () => {
    const huge = variants({ pin: { unpackedBytes: 2 ** 52 } });
    await expect(huge.install("vulkan", { signal: never() })).rejects.toMatchObject({
      code: "disk-full",
      message: expect.stringMatching(/needs \d+ MiB free at .*, there are \d+ MiB/),
    });
    expect(server.downloads()).toBe(0);
  });

  test.each([
    ["that the registry does not have", {}, { name: "linux-x64-nothing" }, "engine-variant-unavailable"],
    ["whose registry does not answer", { npm_config_registry: "http://127.0.0.1:9/" }, {}, "engine-download-failed"],
    ["for a machine without npm", { PATH: "/nonexistent", npm_execpath: undefined }, {}, "npm-missing"],
  ])("%s is a fault that says so", async (_, environment, pin, code) => {
    await expect(variants({ environment, pin }).install("vulkan", { signal: never() })).rejects.toMatchObject({ code });
    expect(await readdir(folder)).toEqual(NOTHING_LEFT);
  });

  test("without a pinned digest is not installed at all", async () => {
    await expect(variants().install("metal", { signal: never() })).rejects.toMatchObject({
      code: "engine-variant-unavailable",
    });
  });
});

describe("the table of packages", () => {
  test("pins each to one SHA-512 of 64 bytes", () => {
    for (const { integrity } of PINNED_PACKAGES) {
      expect(Buffer.from(integrity.replace(/^sha512-/, ""), "base64")).toHaveLength(64);
    }
  });
});

describe("the command line", () => {
  const pinned = PINNED_PACKAGES.find(
    ({ variant, platform, arch }) => variant === "vulkan" && platform === process.platform && arch === process.arch,
  );

  test.skipIf(pinned === undefined)("leaves nothing for good when it is killed while it installs", async () => {
    const home = makeHome();
    server.claim(pinned?.integrity ?? "");
    const stalled = server.stall();
    await using running = launchFallow(["engine", "install", "vulkan"], { home, env: server.environment });
    await stalled;
    running.killGroup("SIGKILL");
    await running.exited;
    const engines = join(home, "engines");
    expect((await readdir(engines)).filter((name) => name.startsWith(".work-"))).toHaveLength(1);
    server.resume();
    // What this registry serves is not the real package: the pinned digest refuses it, and what both tries left is gone.
    const { code, stderr } = await runFallow(["engine", "install", "vulkan"], { home, env: server.environment });
    expect(code).toBe(1);
    expect(stderr).toMatch(/does not have the digest[^\n]*\n\s*fix: check which registry npm uses/);
    expect(await readdir(engines)).toEqual(NOTHING_LEFT);
    removeHome(home);
  });

  test("lists variants, and refuses to remove what is not there and to install what does not exist", async () => {
    const home = makeHome();
    const listed = (await runFallow(["engine", "--json"], { home })).json;
    expect(listed).toMatchObject({ engines: [{ variant: "cpu", state: "installed" }, {}, {}, {}] });
    expect(await runFallow(["engine", "remove", "vulkan"], { home })).toMatchObject({ code: 4 });
    expect(await runFallow(["engine", "install", "opencl"], { home })).toMatchObject({ code: 2 });
    removeHome(home);
  });
});

describe("an agent whose GPU engine cannot be used", () => {
  test("says why and what to do in one line, and serves with the CPU when nothing can be fetched", async () => {
    const env = { npm_config_registry: "http://127.0.0.1:9/", npm_config_fetch_retries: "0" };
    await using grid = await startGrid({ args: ["--engine", "cuda", "--threads", "1"], env });
    expect(grid.log()).toMatch(
      /the cuda engine is not used, cpu is instead: [^\n]+; [^\n]*(--engine|fallow engine install)/,
    );
  });

  test.skipIf(process.platform !== "linux")("does so when the engine's library is not what it should be", async () => {
    const home = makeHome();
    const engines = join(home, "engines");
    await mkdir(engines, { recursive: true });
    const pin = PINNED_PACKAGES.find(({ variant, arch }) => variant === "vulkan" && arch === process.arch);
    if (pin === undefined) return removeHome(home); // nothing is pinned for this processor: the test above covers it
    const bins = join(engines, PLACE, "node_modules", "@node-llama-cpp", pin.name, "bins", pin.name);
    await mkdir(bins, { recursive: true });
    const names = ["libllama.vulkan.v0.5.0.so", "libggml.vulkan.v0.5.0.so", "libggml-base.so"];
    for (const name of names) await writeFile(join(bins, name), "no library");
    await writeFile(join(engines, PLACE, "installed.json"), JSON.stringify({ integrity: pin.integrity, files: [] }));
    {
      await using grid = await startGrid({ home, args: ["--engine", "vulkan", "--threads", "1"] });
      expect(grid.log()).toMatch(/the vulkan engine is not used, cpu is instead: [^\n]+; \S+/);
    }
    removeHome(home);
  });
});
