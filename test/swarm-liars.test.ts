/** Holders whose program breaks the protocol itself: each is named for what it does and left alone, and the model comes from elsewhere. */
import { createHash } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { writeFrame } from "../src/wire/peer-frames.ts";
import { writeRandomModel } from "./support/random-model.ts";
import { type RawAsk, type RawLiar, rawLiar } from "./support/raw-liar.ts";
import { SwarmGrid, type SwarmModel } from "./support/swarm-grid.ts";

const MODEL_BYTES = 24 * 1024 * 1024;
/** A chunk comes in up to 64 pieces, and a few chunks are asked for at once; all of the model's would be more than a thousand. */
const ASKS_MAX = 256;

let models: string;
let path: string;
let grid: SwarmGrid;
let model: SwarmModel;
let liar: RawLiar | null = null;

beforeAll(async () => {
  models = await mkdtemp(join(tmpdir(), "fallow-liars-"));
  path = join(models, "random.gguf");
  await writeRandomModel(path, { fileBytes: MODEL_BYTES, layerCount: 8 });
});
afterAll(() => rm(models, { recursive: true, force: true }));
beforeEach(async () => {
  grid = await SwarmGrid.open();
  model = await grid.addModel(path);
});
afterEach(async () => {
  await liar?.close();
  await grid.close();
});

type Lie = (ask: RawAsk) => void;
const flips: Lie = ({ stream, offset, right, data }) => {
  const bytes = Uint8Array.from(right);
  bytes[bytes.length - 1] = (bytes[bytes.length - 1] ?? 0) ^ 0x10;
  data({ stream, offset, bytes });
};
const tooFew: Lie = ({ stream, offset, right, data, write }) => {
  data({ stream, offset, bytes: right.subarray(0, right.length - 1) });
  write(writeFrame({ kind: "stopped", stream }));
};
const tooMany: Lie = ({ stream, offset, right, data }) =>
  data({ stream, offset, bytes: Buffer.concat([right.subarray(0, 200_000), Buffer.alloc(56_000)]) });
const endless: Lie = ({ stream, offset, data, isCut }) => {
  let at = offset;
  const more = () => {
    if (isCut()) return;
    data({ stream, offset: at, bytes: new Uint8Array(64 * 1024) });
    at += 64 * 1024;
    setImmediate(more);
  };
  more();
};
const elsewhere: Lie = ({ stream, offset, right, data }) => data({ stream, offset: offset + 1, bytes: right });
const unasked: Lie = ({ stream, right, data }) => data({ stream: stream + 1_000_000, offset: 0, bytes: right });
const noise: Lie = ({ write }) => void write(Buffer.from("HTTP/1.1 200 OK\r\n\r\n"));
const drips: Lie = ({ stream, offset, right, data, isCut }) => {
  let at = 0;
  const more = () => {
    if (isCut() || at >= right.length) return;
    data({ stream, offset: offset + at, bytes: right.subarray(at, at + 1) });
    at += 1;
    setTimeout(more, 50).unref();
  };
  more();
};

test.each([
  ["flips bits", flips, "bad-chunk"],
  ["sends fewer bytes than were asked for and calls it the end", tooFew, "breach"],
  ["sends more bytes than were asked for", tooMany, "breach"],
  ["sends without an end", endless, "breach"],
  ["sends other bytes than were asked for", elsewhere, "breach"],
  ["sends what nobody gave it credit for", unasked, "breach"],
  ["speaks something else", noise, "breach"],
  ["drips", drips, "too-slow"],
] as const)("a node that %s is named for it, asked no more, and the model comes all the same", async (_, lie, code) => {
  // Beside an honest node one that drips is not missed: its chunks are asked for there before it is named.
  if (code !== "too-slow") {
    const honest = await grid.agent();
    await honest.fetch(model);
    await grid.heard(honest.nodeId, model, (chunks, of) => chunks === of);
  }
  liar = await rawLiar(grid, { model, path }, lie);
  const { nodeId } = liar;
  await grid.heard(nodeId, model, (chunks, of) => chunks === of);
  const node = await grid.agent();
  const found = await node.fetch(model);
  const sha256 = createHash("sha256")
    .update(await readFile(found))
    .digest("hex");
  expect(sha256).toBe(model.weightsSha256);
  const reports = node.sent.filter(({ type }) => type === "peer.report");
  expect(reports).toContainEqual(expect.objectContaining({ nodeId, code }));
  expect(reports.every((report) => "nodeId" in report && report.nodeId === nodeId)).toBe(true);
  expect(liar.asked()).toBeLessThan(ASKS_MAX);
});
