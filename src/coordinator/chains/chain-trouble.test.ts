import { describe, expect, test } from "vitest";
import { modelId, sha256Hex } from "../../domain/ids.ts";
import { type Chain, describeTrouble, newChain, noteTrouble } from "./chain.ts";

function chain(state: Chain["state"]): Chain {
  const shape = {
    ...{ modelId: modelId("large"), weightsSha256: sha256Hex("a".repeat(64)), layerCount: 4, wire: "f32" as const },
    ...{ contextTokens: 64, sequencesMax: 1, draft: undefined },
  };
  return { ...newChain("0".repeat(32), shape, { spots: [], nowMs: 0 }), state };
}

describe("the trouble of a chain", () => {
  test("is what broke it, with its time, whatever is noticed while it is mended", () => {
    const broken = chain("serving");
    noteTrouble(broken, "attic is silent", 1_000);
    broken.state = "broken";
    noteTrouble(broken, "no node can take the place (node-suspect: 1)", 1_200);
    noteTrouble(broken, "no node can take the place (memory-too-small: 2)", 2_000);
    expect(broken.trouble).toEqual({ why: "attic is silent", atMs: 1_000 });
    expect(describeTrouble(broken)).toBe("attic is silent; then no node can take the place (memory-too-small: 2)");
  });

  test("is another one when it breaks again after it served", () => {
    const again = chain("serving");
    noteTrouble(again, "attic is silent", 1_000);
    noteTrouble(again, "the owner of barn is back", 9_000);
    expect(describeTrouble(again)).toBe("the owner of barn is back");
    expect(again.trouble?.atMs).toBe(9_000);
    expect(describeTrouble(chain("loading"))).toBeNull();
  });
});
