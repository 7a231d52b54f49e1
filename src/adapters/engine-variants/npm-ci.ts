/**
 * Installs one package of an exact version and digest into a folder, by npm itself: it knows the machine's registry, proxy,
 * certificates and cache. A lockfile with the digest makes `npm ci` refuse anything else, and no script of the package runs.
 */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { FallowError } from "../../domain/fault.ts";
import type { PinnedPackage } from "./pinned-packages.ts";

/** npm gives up a silent connection by itself after minutes; a download that takes longer than this is not coming. */
const NPM_MS_MAX = 1_800_000;
/** npm's last words hold the cause. */
const STDERR_CHARS_KEPT = 16_000;
const ERROR_CHARS_SHOWN = 300;

export interface NpmCi {
  readonly folder: string;
  readonly pin: PinnedPackage;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly signal: AbortSignal;
}

/**
 * Rejects with a `FallowError`: `npm-missing`, `engine-integrity-mismatch`, `engine-variant-unavailable`, `engine-download-failed`,
 * `disk-full`, `aborted`. The folder may then hold anything.
 */
export async function npmCi(options: NpmCi): Promise<void> {
  const { folder, pin } = options;
  const name = `@node-llama-cpp/${pin.name}`;
  const root = { name: "fallow-engine", version: "1.0.0", private: true, dependencies: { [name]: pin.version } };
  const lock = {
    name: root.name,
    version: root.version,
    lockfileVersion: 3,
    requires: true,
    packages: {
      "": root,
      [`node_modules/${name}`]: { version: pin.version, integrity: pin.integrity },
    },
  };
  await writeFile(join(folder, "package.json"), `${JSON.stringify(root)}\n`);
  await writeFile(join(folder, "package-lock.json"), `${JSON.stringify(lock)}\n`);
  await run(options, name);
}

function run({ folder, pin, environment, signal }: NpmCi, name: string): Promise<void> {
  const [program, ...first] = npmCommand(environment);
  const flags = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-progress", "--loglevel=error"];
  const end = AbortSignal.any([signal, AbortSignal.timeout(NPM_MS_MAX)]);
  return new Promise((resolve, reject) => {
    const child = spawn(program, [...first, "ci", ...flags], {
      cwd: folder,
      env: withoutOwnSecrets(environment),
      stdio: ["ignore", "ignore", "pipe"],
      signal: end,
      killSignal: "SIGKILL",
    });
    let stderr = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr = (stderr + text).slice(-STDERR_CHARS_KEPT);
    });
    let failure: Error | null = null;
    child.once("error", (cause) => {
      failure = cause;
    });
    child.once("close", (code) => {
      if (signal.aborted) reject(new FallowError("aborted", "installing was stopped", { cause: signal.reason }));
      else if (failure !== null) reject(notStarted(failure, { program, isTimeout: end.aborted }));
      else if (code === 0) resolve();
      else reject(npmFault(stderr, { name: `${name}@${pin.version}`, code }));
    });
  });
}

/** The npm that started this program, else the one of this Node on Windows (where PATH has only a batch file), else PATH's. */
function npmCommand(environment: Readonly<Record<string, string | undefined>>): readonly [string, ...string[]] {
  const named = environment["npm_execpath"];
  const node = environment["npm_node_execpath"] ?? process.execPath;
  if (named !== undefined && basename(named) === "npm-cli.js" && existsSync(named)) return [node, named];
  const beside = join(dirname(process.execPath), "node_modules", "npm", "bin", "npm-cli.js");
  if (process.platform === "win32" && existsSync(beside)) return [process.execPath, beside];
  return ["npm"];
}

/** npm has no business with this program's keys; how it reaches its registry stays. */
function withoutOwnSecrets(
  environment: Readonly<Record<string, string | undefined>>,
): Record<string, string | undefined> {
  return Object.fromEntries(Object.entries(environment).filter(([key]) => !key.toUpperCase().startsWith("FALLOW_")));
}

function notStarted(cause: Error, run: { program: string; isTimeout: boolean }): FallowError {
  if (run.isTimeout) {
    return new FallowError("engine-download-failed", `npm did not end within ${NPM_MS_MAX / 60_000} minutes`, {
      cause,
    });
  }
  return new FallowError("npm-missing", `${run.program} could not be started; it fetches the engine's libraries`, {
    cause,
  });
}

/** npm's error codes, by what they mean to the owner. */
const CODES: readonly (readonly [npm: RegExp, fault: string, what: string])[] = [
  [/^EINTEGRITY$/, "engine-integrity-mismatch", "does not have the digest that this version of fallow was made with"],
  [/^(E404|ETARGET|ENOVERSIONS|EBADPLATFORM)$/, "engine-variant-unavailable", "is not to be had here"],
  [/^ENOSPC$/, "disk-full", "does not fit on the disk"],
];

function npmFault(stderr: string, run: { name: string; code: number | null }): FallowError {
  const npmCode = /^npm (?:error|ERR\S) code (\w+)/m.exec(stderr)?.[1] ?? null;
  const known = CODES.find(([pattern]) => npmCode !== null && pattern.test(npmCode));
  const words = stderr
    .split("\n")
    .filter((line) => /^npm (?:error|ERR\S)/.test(line) && !/ code | A complete log|^npm \S+$/.test(line))
    .map((line) => line.replace(/^npm (?:error|ERR\S)\s*/, "").trim())
    .join(" ")
    .slice(0, ERROR_CHARS_SHOWN);
  const detail = `npm: ${npmCode ?? `exit ${run.code}`}${words === "" ? "" : `, ${words}`}`;
  const [, fault, what] = known ?? [null, "engine-download-failed", "could not be fetched"];
  return new FallowError(fault, `the package ${run.name} ${what} (${detail})`, { data: { npmCode } });
}
