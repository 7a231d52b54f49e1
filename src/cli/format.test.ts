import { describe, expect, test } from "vitest";
import { parseBytes } from "./byte-size.ts";
import { fields, formatBytes, formatDuration, plain, table } from "./format.ts";

describe("what people read", () => {
  test.each([
    [0, "0 B"],
    [1_023, "1023 B"],
    [1_536, "1.5 KiB"],
    [3_136_736, "3.0 MiB"],
    [25_276_502_016, "23.5 GiB"],
    [200 * 2 ** 30, "200 GiB"],
  ])("%d bytes are %s", (bytes, text) => {
    expect(formatBytes(bytes)).toBe(text);
  });

  test.each([
    [40, "0.0 s"],
    [9_940, "9.9 s"],
    [119_000, "119 s"],
    [600_000, "10 min"],
    [86_400_000, "24 h"],
    [864_000_000, "10 d"],
  ])("%d ms are %s", (durationMs, text) => {
    expect(formatDuration(durationMs)).toBe(text);
  });

  test("columns line up, numbers to the right, and no line ends in blanks", () => {
    const text = table(
      [{ title: "NAME" }, { title: "TOK/S", isRight: true }],
      [
        ["a", "7"],
        ["longer", "1234"],
      ],
      "none",
    );
    expect(text).toBe("NAME    TOK/S\na           7\nlonger   1234\n");
  });

  test("a terminal that is too narrow gets whole lines: columns drop in their order, and it is said which", () => {
    const columns = [{ title: "ID", dropOrder: 2 }, { title: "NAME" }, { title: "SIZE", dropOrder: 1 }];
    const rows = [["node_0123456789", "a", "7 GiB"]];
    expect(table(columns, rows, "none", 28)).toBe("ID               NAME  SIZE\nnode_0123456789  a     7 GiB\n");
    expect(table(columns, rows, "none", 27)).toBe(
      "NAME  SIZE\na     7 GiB\n(this terminal is too narrow for ID; --json has all)\n",
    );
    expect(table(columns, rows, "none", 3)).toMatch(/^NAME\na\n\(this terminal is too narrow for ID, SIZE;/);
  });

  test("an empty table says so", () => {
    expect(table([{ title: "NAME" }], [], "no node has joined")).toBe("no node has joined\n");
  });

  test("a name cannot move the cursor, colour the terminal or turn its own direction around", () => {
    expect(plain("a\u001b[2Jb\rc\nd\u202ee")).toBe("a\ufffd[2Jb\ufffdc\ufffdd\ufffde");
    expect(fields([["name", "x\u001b]0;title\u0007"]])).not.toContain("\u001b");
  });
});

describe("sizes on the command line", () => {
  test.each([
    ["8GiB", 8 * 2 ** 30],
    ["8G", 8 * 2 ** 30],
    ["1.5g", 1.5 * 2 ** 30],
    ["512 MB", 512 * 2 ** 20],
    ["1000", 1_000],
  ])("%s is %d bytes", (text, bytes) => {
    expect(parseBytes(text)).toBe(bytes);
  });

  test.each(["", "lots", "-1", "0", "8X", "1e99G"])("%j is no size", (text) => {
    expect(() => parseBytes(text)).toThrow("is no size");
  });
});
