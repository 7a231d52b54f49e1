/**
 * A real PostgreSQL server for a test file: its own data directory in a temporary folder, reached over a Unix socket there, so
 * that no port is taken. PostgreSQL refuses to run as root; then it runs as `postgres`, or as `nobody`.
 */
import { execFile, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { chown, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { Client } from "pg";
import { findPostgresBin, isCi } from "../../tools/test-tools.ts";

const run = promisify(execFile);
const READY_TRIES_MAX = 600;

export interface TestPostgres {
  /** Makes an empty database and gives its URL. */
  createDatabase(): Promise<string>;
  /** Runs one statement as the superuser, in the maintenance database. */
  query(statement: string): Promise<readonly Record<string, unknown>[]>;
  stop(): Promise<void>;
}

/** Why suites over PostgreSQL are left out here, or null. In CI nothing is left out: starting fails there instead. */
export function postgresAbsent(): string | null {
  return findPostgresBin() === null && !isCi()
    ? "no PostgreSQL server is installed (apt-get install postgresql)"
    : null;
}

export async function startPostgres(): Promise<TestPostgres> {
  const bin = findPostgresBin();
  if (bin === null) throw new Error("there is no PostgreSQL server; apt-get install postgresql");
  const folder = await mkdtemp(join(tmpdir(), "fallow-pg-"));
  const identity = unprivileged();
  if (identity !== null) await chown(folder, identity.uid, identity.gid);
  const as = identity === null ? {} : identity;
  const data = join(folder, "data");
  const init = ["-D", data, "-U", "fallow", "-A", "trust", "-E", "UTF8", "--no-sync", "--no-instructions"];
  await run(join(bin, "initdb"), init, { ...as, cwd: folder });
  const settings = [
    "listen_addresses=",
    `unix_socket_directories=${folder}`,
    "max_connections=60",
    "shared_buffers=16MB",
  ];
  const server = spawn(join(bin, "postgres"), ["-D", data, ...settings.flatMap((setting) => ["-c", setting])], {
    ...as,
    cwd: folder,
    stdio: "ignore",
  });
  const exited = once(server, "exit");
  const urlOf = (database: string) => `postgres://fallow@localhost/${database}?host=${encodeURIComponent(folder)}`;
  await untilReady(urlOf("postgres"));
  let databases = 0;
  const query = async (statement: string) => {
    const client = new Client({ connectionString: urlOf("postgres") });
    await client.connect();
    try {
      return (await client.query<Record<string, unknown>>(statement)).rows;
    } finally {
      await client.end();
    }
  };
  return {
    query,
    createDatabase: async () => {
      databases++;
      await query(`create database fallow_${databases}`);
      return urlOf(`fallow_${databases}`);
    },
    stop: async () => {
      // Immediate shutdown: nothing in there is kept.
      server.kill("SIGQUIT");
      await exited;
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** Each try is a connection of its own; the server answers as soon as it can. */
async function untilReady(url: string): Promise<void> {
  for (let tries = 1; ; tries++) {
    const client = new Client({ connectionString: url });
    // A server that is still starting may drop the connection after it was made.
    client.on("error", () => undefined);
    try {
      await client.connect();
      await client.query("select 1");
      await client.end();
      return;
    } catch (cause) {
      if (tries >= READY_TRIES_MAX) throw cause;
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
  }
}

function unprivileged(): { uid: number; gid: number } | null {
  if (process.getuid?.() !== 0) return null;
  for (const name of ["postgres", "nobody"]) {
    try {
      const id = (flag: string) => Number(execFileSync("id", [flag, name], { encoding: "utf8" }));
      return { uid: id("-u"), gid: id("-g") };
    } catch {
      // No such user here: the next one.
    }
  }
  throw new Error("PostgreSQL does not run as root, and there is neither a user postgres nor nobody");
}
