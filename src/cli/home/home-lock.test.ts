import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { isLocked, takeLock } from "./home-lock.ts";

describe("the lock of a home", () => {
  let folder: string;
  let path: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "fallow-lock-"));
    path = join(folder, "up.lock");
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  test("one holds it, and it is free again after the release, which may come twice", () => {
    const lock = takeLock(path);
    expect(lock).not.toBeNull();
    expect(takeLock(path)).toBeNull();
    expect(isLocked(path)).toBe(true);
    lock?.release();
    lock?.release();
    expect(isLocked(path)).toBe(false);
  });

  test("a process that is killed with SIGKILL leaves no lock behind", async () => {
    const source = new URL("./home-lock.ts", import.meta.url).href;
    const script = `import { takeLock } from ${JSON.stringify(source)};
      console.log(takeLock(${JSON.stringify(path)}) !== null);
      setInterval(() => undefined, 1000);`;
    const child = spawn(process.execPath, ["--input-type=module", "-e", script], {
      stdio: ["ignore", "pipe", "ignore"],
    });
    const held = await new Promise<string>((resolve) =>
      child.stdout.once("data", (data) => resolve(String(data).trim())),
    );
    expect(held).toBe("true");
    expect(isLocked(path)).toBe(true);
    child.kill("SIGKILL");
    await new Promise((resolve) => child.once("close", resolve));
    expect(isLocked(path)).toBe(false);
  });
});
