import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { openHome, writeFileSafely } from "./home-folder.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "fallow-home-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

describe("a file that is written safely", () => {
  test("holds all of a long text, replaces the old one, and is for its owner only", () => {
    const path = join(folder, "home.json");
    const text = "é".repeat(3_000_000);
    writeFileSafely(path, "old");
    writeFileSafely(path, text);
    expect(readFileSync(path, "utf8")).toBe(text);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(readdirSync(folder)).toEqual(["home.json"]);
  });

  test("leaves no copy of its secret behind when it cannot get its name", () => {
    const path = join(folder, "taken");
    mkdirSync(join(path, "inside"), { recursive: true });
    expect(() => writeFileSafely(path, "secret")).toThrow();
    expect(readdirSync(folder)).toEqual(["taken"]);
  });

  test("leaves no copy behind when the write itself fails", () => {
    // What is no text makes the write throw after the file was made, as a full disk does.
    expect(() => Reflect.apply(writeFileSafely, null, [join(folder, "home.json"), Symbol("no text")])).toThrow();
    expect(readdirSync(folder)).toEqual([]);
  });
});

describe("a home that cannot be made", () => {
  test("is refused with its fix, also where Node's own recursive mkdir spins for ever", () => {
    writeFileSync(join(folder, "file"), "");
    for (const path of [join(folder, "file", "home"), join(folder, "file"), "/proc/fallow-test/home"]) {
      expect(() => openHome(path)).toThrow(/cannot be used as a home/);
    }
  });

  test("is made with all its parents, for its owner only", () => {
    const { path } = openHome(join(folder, "a", "b"));
    expect(statSync(path).mode & 0o777).toBe(0o700);
    expect(openHome(path).path).toBe(path);
  });
});
