// Provides the programs from outside npm that some suites need. As root on Debian or Ubuntu it installs what is missing;
// elsewhere it says which suites are left out and how to get them. In CI a tool that is still missing is a failure.
// With --soak it also provides what only the long suites need.
// Runs on the project's Node, after tools/ensure.mjs. FALLOW_NO_APT=1 keeps it from installing anything.
import { spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { progress } from "./progress.mjs";
import { isCi, SOAK_TOOLS, TOOLS } from "./test-tools.ts";

const say = (line) => process.stderr.write(`fallow: ${line}\n`);
/** Another apt-get may hold the package lock: wait for it this long. */
const APT_LOCK_WAIT_S = 300;
/** Of what apt-get wrote, this much is shown when it fails. */
const SHOWN_LOG_LINES = 15;

function isDebianLike() {
  try {
    return /^ID(_LIKE)?=.*\b(debian|ubuntu)\b/m.test(readFileSync("/etc/os-release", "utf8"));
  } catch {
    return false; // no such file: not a Linux with one
  }
}

function hasPackageLists() {
  try {
    return readdirSync("/var/lib/apt/lists").some((name) => name.includes("Packages"));
  } catch {
    return false; // no lists at all: apt-get update makes them
  }
}

/** Runs apt-get with a progress line. Answers null, or why it failed. */
async function aptGet(label, ...args) {
  const log = [];
  const shown = progress(label, () => log.at(-1)?.slice(0, 70) ?? "");
  const options = ["-q", "-y", "-o", `DPkg::Lock::Timeout=${APT_LOCK_WAIT_S}`, "-o", "Dpkg::Use-Pty=0"];
  const outcome = await new Promise((resolve) => {
    const child = spawn("apt-get", [...options, ...args], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" },
    });
    const keep = (data) =>
      log.push(
        ...String(data)
          .split("\n")
          .filter((line) => line.trim() !== ""),
      );
    child.stdout.on("data", keep);
    child.stderr.on("data", keep);
    child.on("error", (error) => resolve(error.message));
    child.on("exit", (code, signal) => resolve(code === 0 ? null : (signal ?? `exit ${code}`)));
  });
  shown.stop(outcome === null ? "done" : `failed (${outcome})`);
  return outcome === null ? null : log.slice(-SHOWN_LOG_LINES).join("\n");
}

/** One package at a time: where one does not exist, the others are still installed. */
async function install(packages) {
  let isUpdated = false;
  if (!hasPackageLists()) {
    await aptGet("reading the package lists", "update");
    isUpdated = true;
  }
  for (const name of packages) {
    const args = ["install", "--no-install-recommends", name];
    let failure = await aptGet(`installing the Debian package ${name}`, ...args);
    if (failure !== null && !isUpdated) {
      await aptGet("reading the package lists again", "update");
      isUpdated = true;
      failure = await aptGet(`installing the Debian package ${name}`, ...args);
    }
    if (failure !== null) say(failure);
  }
}

const wanted = process.argv.includes("--soak") ? SOAK_TOOLS : TOOLS;
const missing = () => wanted.filter((tool) => tool.find() === null);

let left = missing();
const mayInstall = process.getuid?.() === 0 && isDebianLike() && process.env.FALLOW_NO_APT !== "1";
if (left.length > 0 && mayInstall) {
  await install(left.flatMap((tool) => tool.debianPackages));
  left = missing();
}
for (const tool of left) {
  say(
    `${tool.name} is missing: ${isCi() ? "in CI that is a failure" : `left out: ${tool.suites}`}. ` +
      `Get it with: apt-get install ${tool.debianPackages.join(" ")} (as root on Debian), or name it in ${tool.variable}.`,
  );
}
if (left.length > 0 && isCi()) process.exitCode = 1;
