/** Programs that the agent starts for its owner, as real processes: they end when they are told to, and with whoever started them. */

import { fork } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { SystemClock } from "../src/adapters/clock-system/system-clock.ts";
import { SystemRandom } from "../src/adapters/clock-system/system-random.ts";
import { ProcessLauncher } from "../src/adapters/server-launcher/process-launcher.ts";
import { KeptServer } from "../src/agent/devices/kept-server.ts";
import { simLog } from "../src/sim/sim-log.ts";

let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "fallow-launch-"));
});

afterAll(() => rmSync(folder, { recursive: true }));

/** A shell with a child of its own, as servers of many processes are; the child's id is in the log. */
const FAMILY = ["-c", "sleep 600 & echo child $!; wait"] as const;

function launcher(args: readonly string[], name = "server.log"): ProcessLauncher {
  return new ProcessLauncher({
    command: { program: "/bin/sh", args },
    logPath: join(folder, name),
    environment: process.env,
  });
}

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 10));
}

function childIn(log: string): number {
  const path = join(folder, log);
  return Number(/child (\d+)/.exec(existsSync(path) ? readFileSync(path, "utf8") : "")?.[1] ?? 0);
}

/** A process that has ended and that nobody has asked after yet does nothing more. */
function isRunning(pid: number): boolean {
  const path = `/proc/${pid}/stat`;
  return existsSync(path) && !/\) Z /.test(readFileSync(path, "utf8"));
}

test("stopping ends all processes of a server", async () => {
  const server = await launcher(FAMILY, "stop.log").start();
  await until(() => childIn("stop.log") > 0);
  await server.stop();
  await server.stop();
  await until(() => !isRunning(childIn("stop.log")) && !isRunning(server.processId));
});

test("a program that is not there, and one that ends, are told with their last words", async () => {
  const none = new ProcessLauncher({
    command: { program: join(folder, "no-such-server"), args: [] },
    logPath: join(folder, "none.log"),
    environment: process.env,
  });
  await expect(none.start()).rejects.toMatchObject({
    code: "server-not-started",
    message: expect.stringContaining("ENOENT"),
  });
  const server = await launcher(["-c", "echo CUDA out of memory >&2; exit 3"], "ends.log").start();
  expect(await server.exited).toBe("exit code 3: CUDA out of memory");
});

test("a server whose agent is killed ends", async () => {
  const agent = fork(
    new URL("./support/launching-process.ts", import.meta.url),
    [join(folder, "agent.log"), ...FAMILY],
    {
      execArgv: [],
    },
  );
  await until(() => childIn("agent.log") > 0);
  const child = childIn("agent.log");
  expect(isRunning(child)).toBe(true);
  agent.kill("SIGKILL");
  await until(() => !isRunning(child));
});

test("a kept server that ends by itself is started again, and is gone when its last user leaves", async () => {
  const kept = new KeptServer({
    clock: new SystemClock(),
    random: new SystemRandom(),
    log: simLog(() => undefined),
    launcher: launcher(["-c", "echo child $$; exec sleep 600"], "kept.log"),
  });
  kept.use();
  kept.use();
  await until(() => kept.processId !== null);
  const first = kept.processId ?? 0;
  process.kill(first, "SIGKILL");
  await until(() => kept.processId !== null && kept.processId !== first);
  expect(kept.starts).toBe(2);
  expect(kept.lastEnd).toMatch(/^ended by SIGKILL/);
  const second = kept.processId ?? 0;
  await kept.leave({ keeps: false });
  expect(isRunning(second)).toBe(true);
  await kept.leave({ keeps: false });
  expect(kept.processId).toBeNull();
  await until(() => !isRunning(second));
});
