import { expect, test } from "vitest";
import { sha256Hex } from "../../domain/ids.ts";
import { type AgentEvent, describeAgentEvent } from "./agent-events.ts";
import { tellFetched } from "./fetch-watch.ts";

const GIB = 1024 ** 3;
const fetched = {
  weightsSha256: sha256Hex("ab".repeat(32)),
  label: "qwen2.5-7b",
  isIdle: false,
  tookMs: 61_000,
  uploadedBytes: 0,
};

function told(from: { peerBytes: number; sourceBytes: number; nodes: number }): readonly (string | null)[] {
  const events: AgentEvent[] = [];
  tellFetched({ ...fetched, ...from }, (event) => events.push(event));
  return events.map(describeAgentEvent);
}

test("an owner is told what came, how long it took and from whom", () => {
  const lines = told({ peerBytes: 3.98 * GIB, sourceBytes: 0.12 * GIB, nodes: 3 });
  expect(lines).toEqual(["qwen2.5-7b: 4.1 GiB in 61 s, 97 % from 3 nodes"]);
});

test("what came from nobody else came from the coordinator, and what lay here already is not told", () => {
  expect(told({ peerBytes: 0, sourceBytes: GIB, nodes: 0 })).toEqual([
    "qwen2.5-7b: 1.0 GiB in 61 s, all from the coordinator",
  ]);
  expect(told({ peerBytes: 0, sourceBytes: 0, nodes: 0 })).toEqual([]);
});
