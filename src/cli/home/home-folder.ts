/**
 * The home: one folder per grid or agent on this machine, readable by its owner only.
 *
 * | path              | holds                                                            |
 * | ----------------- | ---------------------------------------------------------------- |
 * | home.json         | secrets: API key of the operator, coordinator seed (mode 0600)   |
 * | secrets.json      | keys of cloud providers by name (mode 0600), if there are any     |
 * | run.json          | who runs here now: pid and URL                                   |
 * | up.lock           | SQLite file whose lock is held by the running `fallow up`        |
 * | grid.sqlite       | the coordinator's store, unless `--database` names another       |
 * | tls/              | certificate and key for addresses beyond loopback                |
 * | agent/            | the agent's own home: identity, joined grid, weights             |
 * | agent/stages/     | files of stages, cut from weights; may be deleted while it rests  |
 * | agent/spill/      | what running stages have sent, beyond what memory keeps          |
 * | engines/          | engine variants for GPUs, for every agent of this home            |
 */
import { randomBytes } from "node:crypto";
import {
  chmodSync,
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { homedir } from "node:os";
import { dirname, join, resolve } from "node:path";
import type { z } from "zod";
import { CliError, systemCode } from "../cli-error.ts";

export const ENGINES_FOLDER = "engines";

export interface HomeFolder {
  readonly path: string;
  at(...parts: readonly string[]): string;
}

export function homeFolder(path: string | undefined): HomeFolder {
  const chosen = path ?? process.env["FALLOW_HOME"];
  const root = resolve(chosen !== undefined && chosen !== "" ? chosen : join(homedir(), ".fallow"));
  return { path: root, at: (...parts) => join(root, ...parts) };
}

/** Creates the folder with the owner's rights only. Throws with a fix when that is not possible. */
export function openHome(path: string | undefined): HomeFolder {
  const home = homeFolder(path);
  makeFolder(home.path);
  return home;
}

export function makeFolder(path: string): void {
  try {
    makeMissing(path);
    chmodSync(path, 0o700);
  } catch (thrown) {
    throw new CliError(`the folder ${path} cannot be used as a home (${systemCode(thrown) ?? "unknown cause"})`, {
      code: "home-unusable",
      fix: "choose a folder that you may write to, with --home or FALLOW_HOME",
      cause: thrown,
    });
  }
}

/** Not Node's recursive `mkdirSync`: it spins for ever where a parent is there and nothing can be made in it, as in `/proc`. */
function makeMissing(path: string): void {
  const parent = dirname(path);
  if (parent !== path && !existsSync(parent)) makeMissing(parent);
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (thrown) {
    if (systemCode(thrown) !== "EEXIST" || !statSync(path).isDirectory()) throw thrown;
  }
}

/** Writes a file so that a crash leaves the old content or the new one, never a part, and only the owner can read it. */
export function writeFileSafely(path: string, text: string): void {
  const temporary = join(dirname(path), `.${randomBytes(6).toString("hex")}.tmp`);
  const file = openSync(temporary, "wx", 0o600);
  try {
    try {
      // Writes until all is written: a single write may end short, on a disk that is nearly full.
      writeFileSync(file, text);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(temporary, path);
  } catch (thrown) {
    // What it holds may be a secret, and nobody would ever look for it.
    rmSync(temporary, { force: true });
    throw thrown;
  }
}

/** The parsed content of a file of this home, or null when it does not exist. A file that does not fit is an error. */
export function readJsonFile<T>(path: string, schema: z.ZodType<T>): T | null {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (thrown) {
    if (systemCode(thrown) === "ENOENT") return null;
    throw thrown;
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    value = undefined; // no JSON at all: the schema below says so
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw new CliError(`${path} is damaged (${issue?.path.join(".") ?? ""} ${issue?.message ?? ""})`, {
    code: "home-damaged",
    fix: `restore ${path} from a backup, or move it away to start anew`,
  });
}
