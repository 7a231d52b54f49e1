/** Checks of this machine and this home that need no grid. */
import { accessSync, constants, existsSync, readFileSync, statSync } from "node:fs";
import { statfs } from "node:fs/promises";
import { createServer } from "node:net";
import { freemem, totalmem } from "node:os";
import { dirname } from "node:path";
import { systemCode } from "../cli-error.ts";
import { formatBytes } from "../format.ts";
import type { HomeFolder } from "../home/home-folder.ts";
import { isLocked } from "../home/home-lock.ts";
import { readSecrets } from "../home/home-secrets.ts";
import { readRunFile, UP_LOCK } from "../home/run-file.ts";
import { findPortOwner } from "../port-owner.ts";
import { type Check, fine, problem, skipped } from "./check.ts";

const NODE_MAJOR_MIN = 24;
/** Coordinator, agent and an engine with the bundled model take about 400 MB together. */
const MEMORY_FREE_MIN_BYTES = 512 * 2 ** 20;
/** Room for the store, a log and a small model. */
const DISK_FREE_MIN_BYTES = 2 ** 30;
/** Two descriptors for each caller and one for each agent: below this a busy grid refuses connections. */
const FILES_MIN = 4_096;
const GROUP_AND_OTHERS = 0o077;

export function checkNode(): Check {
  const version = process.versions.node;
  return Number(version.split(".")[0]) >= NODE_MAJOR_MIN
    ? fine("node", `Node ${version}`)
    : problem("node", `Node ${version}, ${NODE_MAJOR_MIN} or later is needed`, `install Node ${NODE_MAJOR_MIN}`);
}

export function checkMemory(): Check {
  const freeBytes = availableMemory();
  const detail = `${formatBytes(freeBytes)} of ${formatBytes(totalmem())} available`;
  return freeBytes >= MEMORY_FREE_MIN_BYTES
    ? fine("memory", detail)
    : problem("memory", detail, `close other programs: at least ${formatBytes(MEMORY_FREE_MIN_BYTES)} are needed`);
}

/** On Linux what could be had without swapping; `freemem` elsewhere. */
function availableMemory(): number {
  const kib = /^MemAvailable:\s+(\d+) kB/m.exec(readOr("/proc/meminfo", ""))?.[1];
  return kib === undefined ? freemem() : Number(kib) * 1_024;
}

export async function checkDisk(home: HomeFolder): Promise<Check> {
  const folder = existingParent(home.path);
  const { bavail, bsize } = await statfs(folder);
  const freeBytes = bavail * bsize;
  const detail = `${formatBytes(freeBytes)} free at ${folder}`;
  return freeBytes >= DISK_FREE_MIN_BYTES
    ? fine("disk", detail)
    : problem("disk", detail, "free some space, or choose another folder with --home");
}

export function checkFiles(): Check {
  const soft = /^Max open files\s+(\S+)/m.exec(readOr("/proc/self/limits", ""))?.[1];
  if (soft === undefined) return skipped("open files", "this system does not show the limit");
  const detail = `at most ${soft} files and connections`;
  return soft === "unlimited" || Number(soft) >= FILES_MIN
    ? fine("open files", detail)
    : problem("open files", detail, `raise it in the shell that starts fallow: ulimit -n ${FILES_MIN}`);
}

export function checkHome(home: HomeFolder): Check {
  if (!existsSync(home.path)) {
    const parent = existingParent(home.path);
    return isWritable(parent)
      ? fine("home", `${home.path} does not exist yet; \`fallow up\` makes it`)
      : problem("home", `${parent} may not be written to`, "choose another folder with --home");
  }
  if (!isWritable(home.path)) {
    return problem(
      "home",
      `${home.path} may not be written to`,
      "give this user the right, or choose another with --home",
    );
  }
  const { mode } = statSync(home.path);
  if ((mode & GROUP_AND_OTHERS) !== 0) {
    const detail = `${home.path} holds secrets and other users can open it (mode ${(mode & 0o777).toString(8)})`;
    return problem("home", detail, `chmod 700 ${home.path}`);
  }
  try {
    readSecrets(home);
  } catch (thrown) {
    return problem(
      "home",
      thrown instanceof Error ? thrown.message : String(thrown),
      "restore home.json from a backup",
    );
  }
  return fine("home", home.path);
}

export function checkLock(home: HomeFolder): Check {
  if (!existsSync(home.at(UP_LOCK))) return fine("lock", "no grid has run in this home");
  if (!isLocked(home.at(UP_LOCK))) return fine("lock", "no grid runs in this home");
  const run = readRunFile(home);
  return fine("lock", `held by process ${run?.pid ?? "unknown"}, the grid at ${run?.url ?? "(starting)"}`);
}

export async function checkPort(port: number, home: HomeFolder): Promise<Check> {
  const run = readRunFile(home);
  if (run?.url?.endsWith(`:${port}`) === true && isLocked(home.at(UP_LOCK))) {
    return fine("port", `${port} is used by this home's own grid`);
  }
  const code = await listenError(port);
  if (code === null) return fine("port", `${port} is free`);
  if (code === "EACCES")
    return problem("port", `this user may not listen on ${port}`, "choose one above 1023 with --port");
  const owner = findPortOwner(port);
  const who = owner === null ? "another program" : `process ${owner.pid} (${owner.command})`;
  return problem(
    "port",
    `${port} is taken by ${who}`,
    "choose another with --port (0 picks a free one), or end that program",
  );
}

function listenError(port: number): Promise<string | null> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", (cause) => resolve(systemCode(cause) ?? "unknown"));
    server.listen({ port, host: "127.0.0.1", exclusive: true }, () => server.close(() => resolve(null)));
  });
}

/** The folder itself, or the nearest one above it that exists. */
export function existingParent(path: string): string {
  return existsSync(path) ? path : existingParent(dirname(path));
}

function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK | constants.X_OK);
    return true;
  } catch {
    return false; // for whatever reason: the caller says what to do
  }
}

function readOr(path: string, otherwise: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return otherwise; // not on this system
  }
}
