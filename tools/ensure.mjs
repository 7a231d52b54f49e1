// Makes node_modules match package-lock.json and provides Node >= 24. Runs on any Node >= 18, with no dependencies.
//
// npm writes node_modules/.package-lock.json last, after a complete install, so that file is the stamp: nothing is
// installed while it agrees with the lockfile. On a host whose Node is older than 24 the locked runtime of
// tools/node-runtime is installed as well and linked as node_modules/.bin/node, which npm puts first on PATH.
//
// Not handled: an optional package that fits this platform but failed to download counts as present.
import { spawn } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { progress } from "./progress.mjs";

const MIN_NODE = 24;
const root = dirname(dirname(fileURLToPath(import.meta.url)));
const at = (...path) => join(root, ...path);
const runtime = at("tools", "node-runtime");
const lockDir = at(".fallow-install.lock");
/** A lock without a live owner is taken over after this long; younger, its owner may not have written its pid yet. */
const ORPHAN_LOCK_AGE_MS = 2000;
const STOP_SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"];
// The Node that runs npm: never the one inside node_modules, so it survives `npm ci`.
const hostNode = process.env.npm_node_execpath ?? process.execPath;
const hostVersion = /node\/v([\d.]+)/.exec(process.env.npm_config_user_agent ?? "")?.[1] ?? process.versions.node;
const hostIsNew = Number(hostVersion.split(".")[0]) >= MIN_NODE;
const say = (line) => process.stderr.write(`fallow: ${line}\n`);
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function readLock(file) {
  try {
    return JSON.parse(readFileSync(file, "utf8")).packages;
  } catch {
    return undefined; // absent or half-written: both mean "not installed"
  }
}

function matches(dir) {
  const want = readLock(join(dir, "package-lock.json"));
  const have = readLock(join(dir, "node_modules", ".package-lock.json"));
  if (!want || !have) return false;
  for (const [path, wanted] of Object.entries(want)) {
    if (!path.startsWith("node_modules/")) continue;
    const found = have[path];
    if (found ? found.integrity !== wanted.integrity || found.version !== wanted.version : !wanted.optional)
      return false;
  }
  return Object.keys(have).every((path) => path in want);
}

const isFresh = () =>
  matches(root) && (hostIsNew || (matches(runtime) && existsSync(at("node_modules", ".bin", "node"))));

function countInstalled(dir) {
  try {
    return readdirSync(join(dir, "node_modules")).filter((name) => !name.startsWith(".")).length;
  } catch {
    return 0; // npm has not created the folder yet
  }
}

async function npm(dir, label, ...args) {
  const flags = ["--no-audit", "--no-fund", "--loglevel=error"];
  const npmCli = process.env.npm_execpath;
  const [program, argv] = npmCli ? [hostNode, [npmCli, ...args, ...flags]] : ["npm", [...args, ...flags]];
  const shown = progress(label, () => {
    const count = countInstalled(dir);
    return count > 0 ? `${count} folder${count === 1 ? "" : "s"} in node_modules` : "resolving";
  });
  const child = spawn(program, argv, { cwd: dir, stdio: ["ignore", "ignore", "inherit"] });
  if (child.pid !== undefined) writeFileSync(join(lockDir, "npm-pid"), String(child.pid));
  const forward = (signal) => child.kill(signal);
  for (const signal of STOP_SIGNALS) process.on(signal, forward);
  const outcome = await new Promise((resolve) => {
    child.on("error", (error) => resolve(error.message));
    child.on("exit", (code, signal) => resolve(code === 0 ? null : (signal ?? `exit ${code}`)));
  });
  for (const signal of STOP_SIGNALS) process.off(signal, forward);
  shown.stop(outcome === null ? "done" : "failed");
  if (outcome !== null) throw new Error(`npm ${args[0]} failed in ${relative(root, dir) || "."} (${outcome})`);
}

async function provideNode() {
  if (hostIsNew) return;
  if (!matches(runtime)) await npm(runtime, `this machine has Node ${hostVersion}: fetching Node ${MIN_NODE}`, "ci");
  const folder = join(runtime, "node_modules", `node-${process.platform}-${process.arch}`, "bin");
  const bin = [join(folder, "node"), join(folder, "node.exe")].find((path) => existsSync(path));
  if (bin === undefined) {
    throw new Error(
      `Node >= ${MIN_NODE} is needed, this is ${hostVersion}, and the repository brings none for ` +
        `${process.platform}-${process.arch}: install Node ${MIN_NODE} and run the command again`,
    );
  }
  mkdirSync(at("node_modules", ".bin"), { recursive: true });
  const link = at("node_modules", ".bin", "node");
  rmSync(link, { force: true });
  symlinkSync(relative(dirname(link), bin), link);
}

/** The npm that the owner started can outlive it, and goes on writing node_modules. */
function isLockOwnerAlive() {
  return ["pid", "npm-pid"].some((name) => {
    try {
      process.kill(Number(readFileSync(join(lockDir, name), "utf8")), 0);
      return true;
    } catch {
      return false; // no pid written, or no such process
    }
  });
}

function lockAgeMs() {
  try {
    return Date.now() - statSync(lockDir).mtimeMs;
  } catch {
    return 0; // its owner removed it in the meantime
  }
}

/** True when this process holds the lock and must install; false when another process finished the work meanwhile. */
async function takeLock() {
  let isWaiting = false;
  for (;;) {
    try {
      mkdirSync(lockDir);
      writeFileSync(join(lockDir, "pid"), String(process.pid));
      return true;
    } catch (error) {
      if (error.code !== "EEXIST") throw error;
    }
    if (!isLockOwnerAlive() && lockAgeMs() > ORPHAN_LOCK_AGE_MS) rmSync(lockDir, { recursive: true, force: true });
    else {
      if (!isWaiting) say("another process is installing the dependencies; waiting for it");
      isWaiting = true;
      await sleep(200);
    }
    if (isFresh()) return false;
  }
}

if (!isFresh() && (await takeLock())) {
  try {
    if (!matches(root)) await npm(root, "installing dependencies (first run or changed lockfile)", "ci");
    await provideNode();
  } catch (error) {
    say(error.message);
    process.exitCode = 1;
  } finally {
    rmSync(lockDir, { recursive: true, force: true });
  }
}
