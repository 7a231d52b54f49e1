import { describe, expect, test } from "vitest";
import { parseReference } from "./reference.ts";

const HUB = new URL("https://huggingface.co/");

describe("references", () => {
  test.each([
    "hf:owner",
    "hf:owner/repo/more",
    "hf:../repo",
    "hf:owner/..",
    "hf:owner/repo@../x",
    "hf:owner/repo:../../etc/passwd",
    "hf:owner/repo:a\\b.gguf",
    "https://user:secret@example.com/m.gguf",
    "https://example.com/m.gguf#sha256=abc",
    "",
  ])("%j is refused", (reference) => {
    expect(() => parseReference(reference, HUB)).toThrow(expect.objectContaining({ code: "model-source-invalid" }));
  });

  test.each([
    ["hf:owner/repo", { repo: "owner/repo", revision: null, selector: null }],
    ["hf:owner/repo@refs/pr/1:Q4_K_M", { revision: "refs/pr/1", selector: "Q4_K_M" }],
    ["hf.co/owner/repo:q8_0", { repo: "owner/repo", selector: "q8_0" }],
    [
      "https://huggingface.co/owner/repo/blob/main/sub/a%20b.gguf?download=true",
      { repo: "owner/repo", revision: "main", selector: "sub/a b.gguf" },
    ],
    ["https://huggingface.co/owner/repo", { repo: "owner/repo", revision: null, selector: null }],
  ])("%s names a repository of the hub", (reference, expected) => {
    expect(parseReference(reference, HUB)).toMatchObject({ kind: "hf", ...expected });
  });

  test("what has no scheme is a path", () => {
    expect(parseReference("/models/a.gguf", HUB)).toEqual({ kind: "local", path: "/models/a.gguf" });
  });
});
