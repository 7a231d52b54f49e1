// The programs from outside npm that some suites need: where they are looked for, what installs them, and what a suite
// does without them.
import { accessSync, constants, readdirSync } from "node:fs";
import { delimiter, join } from "node:path";

const DEBIAN_POSTGRES = "/usr/lib/postgresql";

function isReadable(path: string): boolean {
  return isAccessible(path, constants.R_OK);
}

function isExecutable(path: string): boolean {
  return isAccessible(path, constants.X_OK);
}

function isAccessible(path: string, mode: number): boolean {
  try {
    accessSync(path, mode);
    return true;
  } catch {
    return false; // absent or not ours to run: the same to a suite
  }
}

function onPath(names: readonly string[]): string | null {
  const folders = (process.env["PATH"] ?? "").split(delimiter).filter((folder) => folder !== "");
  for (const name of names) {
    const found = folders.map((folder) => join(folder, name)).find(isExecutable);
    if (found !== undefined) return found;
  }
  return null;
}

/** The folder that holds initdb and postgres, newest version first, or null. Debian keeps them off PATH. */
export function findPostgresBin(): string | null {
  const named = process.env["FALLOW_TEST_POSTGRES_BIN"];
  let versions: readonly string[] = [];
  try {
    versions = readdirSync(DEBIAN_POSTGRES).sort((a, b) => Number(b) - Number(a));
  } catch {
    // no Debian packages: PATH is looked at below
  }
  const folders = [
    ...(named === undefined ? [] : [named]),
    ...versions.map((version) => join(DEBIAN_POSTGRES, version, "bin")),
    ...(process.env["PATH"] ?? "").split(delimiter).filter((folder) => folder !== ""),
  ];
  return (
    folders.find((folder) => isExecutable(join(folder, "initdb")) && isExecutable(join(folder, "postgres"))) ?? null
  );
}

/** The browser for the status page's suite, or null. */
export function findChromium(): string | null {
  const named = process.env["FALLOW_TEST_CHROMIUM"];
  if (named !== undefined && isExecutable(named)) return named;
  return onPath(["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]);
}

/** The library that gives a process another time of day, for the suite of clocks that jump; or null. Linux only. */
export function findFaketime(): string | null {
  const named = process.env["FALLOW_TEST_FAKETIME"];
  const folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib", "/usr/lib64"];
  const found = folders.map((folder) => join(folder, "faketime", "libfaketimeMT.so.1"));
  return [...(named === undefined ? [] : [named]), ...found].find(isReadable) ?? null;
}

/** The description of Mesa's software device for Vulkan, where Debian keeps it; or null. The loader must be there too. */
export function findLavapipe(): string | null {
  const named = process.env["FALLOW_TEST_LAVAPIPE"];
  if (named !== undefined && isReadable(named)) return named;
  const folder = "/usr/share/vulkan/icd.d";
  const found = ["lvp_icd.x86_64.json", "lvp_icd.json"].map((name) => join(folder, name)).find(isReadable);
  const loaders = ["/usr/lib/x86_64-linux-gnu/libvulkan.so.1", "/usr/lib64/libvulkan.so.1", "/usr/lib/libvulkan.so.1"];
  return found !== undefined && loaders.some(isReadable) ? found : null;
}

/** `nft`, with all that a network lab needs beside it, or null. Debian keeps them where only root's PATH looks. */
export function findTrafficTools(): string | null {
  return ["ip", "tc", "ss"].every((name) => onPath([name]) !== null) ? onPath(["nft"]) : null;
}

/** What links between nodes are measured beside; or null. */
export function findCurl(): string | null {
  return onPath(["curl"]);
}

/** In CI nothing may be left out: a suite fails where it would otherwise be skipped with a reason. */
export const isCi = (): boolean =>
  process.env["CI"] !== undefined && process.env["CI"] !== "" && process.env["CI"] !== "false";

export interface TestTool {
  readonly name: string;
  /** What is left out without it, for the message. */
  readonly suites: string;
  readonly find: () => string | null;
  readonly debianPackages: readonly string[];
  /** The environment variable that names it where it is not found. */
  readonly variable: string;
}

const NETWORK_TOOLS: readonly TestTool[] = [
  {
    name: "Linux's network tools (ip, tc, ss, nft)",
    suites: "everything that runs in a network lab",
    find: findTrafficTools,
    debianPackages: ["iproute2", "nftables"],
    variable: "PATH",
  },
  {
    name: "curl",
    suites: "the bench of links beside curl",
    find: findCurl,
    debianPackages: ["curl"],
    variable: "PATH",
  },
];

/** Every tool of the usual suites, in the order in which it is installed and reported. */
export const TOOLS: readonly TestTool[] = [
  {
    name: "PostgreSQL server",
    suites: "the store contract over PostgreSQL",
    find: findPostgresBin,
    debianPackages: ["postgresql"],
    variable: "FALLOW_TEST_POSTGRES_BIN",
  },
  {
    name: "Chromium",
    suites: "the status page in a browser",
    find: findChromium,
    debianPackages: ["chromium"],
    variable: "FALLOW_TEST_CHROMIUM",
  },
  {
    name: "libfaketime",
    suites: "clocks that jump",
    find: findFaketime,
    debianPackages: ["libfaketime"],
    variable: "FALLOW_TEST_FAKETIME",
  },
  ...(process.platform === "linux" ? NETWORK_TOOLS : []),
];

/** The only machines for which the engine's package has a Vulkan variant with a known digest. */
export const hasVulkanEngine = process.platform === "linux" && process.arch === "x64";

/** What only the long suites need. */
export const SOAK_TOOLS: readonly TestTool[] = [
  ...TOOLS,
  ...(hasVulkanEngine
    ? [
        {
          name: "Mesa's Vulkan drivers",
          suites: "the Vulkan engine on a software device",
          find: findLavapipe,
          debianPackages: ["libvulkan1", "mesa-vulkan-drivers"],
          variable: "FALLOW_TEST_LAVAPIPE",
        },
      ]
    : []),
];
