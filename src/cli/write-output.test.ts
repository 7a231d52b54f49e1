import { lstatSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { writeReport } from "./write-output.ts";

const REPORT = "<!doctype html>\n<p>a report</p>\n";
let folder: string;
const file = (name: string) => join(folder, name);

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "fallow-report-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

test("a report takes the place of a report and of nothing else", () => {
  writeReport(file("a.html"), `${REPORT}first`);
  writeReport(file("a.html"), REPORT);
  expect(readFileSync(file("a.html"), "utf8")).toBe(REPORT);
  writeFileSync(file("cluster.json"), "{}");
  expect(() => writeReport(file("cluster.json"), REPORT)).toThrow(/cluster\.json is there already and is no report/);
  expect(readFileSync(file("cluster.json"), "utf8")).toBe("{}");
  expect(readdirSync(folder).sort()).toEqual(["a.html", "cluster.json"]);
});

test("a link is followed, and a device is written to and stays", () => {
  writeReport(file("a.html"), "");
  symlinkSync(file("a.html"), file("link.html"));
  writeReport(file("link.html"), REPORT);
  expect(lstatSync(file("link.html")).isSymbolicLink()).toBe(true);
  expect(readFileSync(file("a.html"), "utf8")).toBe(REPORT);
  symlinkSync("/dev/null", file("null"));
  writeReport(file("null"), REPORT);
  expect(lstatSync(file("null")).isSymbolicLink()).toBe(true);
  expect(lstatSync("/dev/null").isCharacterDevice()).toBe(true);
});
