import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { type AttachedFlags, attachedWishOf, modelPair, serverUrl } from "./attached-flags.ts";

const NONE: AttachedFlags = { engineKind: "auto", ownEngine: true };

test("without a server nothing is attached, and options of one are refused", () => {
  expect(attachedWishOf(NONE)).toBeNull();
  expect(() => attachedWishOf({ ...NONE, ownEngine: false })).toThrow("options of a server were given and no server");
});

test("an address is plain, and names are pairs that are given once", () => {
  expect(serverUrl("http://127.0.0.1:11434/")).toBe("http://127.0.0.1:11434");
  for (const wrong of ["ftp://a", "127.0.0.1:1", "http://u:p@a", "http://a/?x=1"]) {
    expect(() => serverUrl(wrong)).toThrow("http or https address");
  }
  expect(modelPair("b=x=y", [["a", "z"]])).toEqual([
    ["a", "z"],
    ["b", "x=y"],
  ]);
  expect(() => modelPair("b")).toThrow("the grid's name");
  expect(() => modelPair("a=q", [["a", "z"]])).toThrow("was given before");
});

test("a launch file says what is started and where it will answer; what is wrong in it is named", () => {
  const folder = mkdtempSync(join(tmpdir(), "fallow-launch-"));
  try {
    const path = join(folder, "launch.json");
    const wish = (launch: unknown) => {
      writeFileSync(path, JSON.stringify(launch));
      return attachedWishOf({ ...NONE, engineLaunch: path });
    };
    expect(wish({ kind: "vllm", model: "/m", port: 8000, tensorParallelSize: 2 })).toMatchObject({
      ...{ url: "http://127.0.0.1:8000", kind: "vllm" },
      launch: { tensorParallelSize: 2, quantization: null, args: [] },
    });
    expect(() => wish({ kind: "ollama", model: "/m", port: 8000 })).toThrow("kind");
    expect(() => wish({ kind: "vllm", model: "/m", port: 8000, tensorParalel: 2 })).toThrow("tensorParalel");
    const both = { ...NONE, engineLaunch: path, engineUrl: "http://127.0.0.1:1" };
    expect(() => {
      wish({ kind: "vllm", model: "/m", port: 8000 });
      attachedWishOf(both);
    }).toThrow("name two servers");
  } finally {
    rmSync(folder, { recursive: true });
  }
});
