import { expect, test } from "vitest";
import { nodeId } from "../../domain/ids.ts";
import { type AgentMessage, type Chunk, WIRE_BOUNDS } from "../../wire/agent-link.ts";
import type { Line } from "../session.ts";
import { ChunkFrames } from "./chunk-frames.ts";

const FRAME_BYTES_MAX = 1024 * 1024;

function lineInto(sent: AgentMessage[]): Line {
  const id = nodeId(`node_${"0".repeat(32)}`);
  return {
    gridId: "grid-test",
    nodeId: id,
    welcome: {
      type: "welcome",
      nodeId: id,
      boot: 1,
      heartbeatMs: 1_000,
      sessionToken: "s".repeat(32),
      coordinatorTimeMs: 0,
    },
    keyPair: { seed: new Uint8Array(32), publicKey: new Uint8Array(32), sign: () => new Uint8Array(64) },
    send: (message) => sent.push(message),
    bufferedBytes: () => 0,
  };
}

function chunkOf(seq: number, shape: { tokens: number; top: number | null }): Chunk {
  const logprob = -0.000_012_345_678_901_234_5;
  const tokenIds = Array.from({ length: shape.tokens }, () => 2 ** 31 - 1);
  const { top } = shape;
  const tops = Array.from({ length: top ?? 0 }, () => ({ tokenId: 2 ** 31 - 1, logprob }));
  const details = top === null ? null : tokenIds.map((tokenId) => ({ tokenId, logprob, top: tops }));
  return { leaseId: "lease_01KA0000000000000000000000", epoch: Number.MAX_SAFE_INTEGER, seq, tokenIds, details };
}

function framesOf(chunks: readonly Chunk[]): readonly (readonly Chunk[])[] {
  const sent: AgentMessage[] = [];
  const frames = new ChunkFrames(lineInto(sent));
  for (const chunk of chunks) frames.add(chunk);
  frames.flush();
  return sent.map((message) => (message.type === "attempt.chunks" ? message.chunks : []));
}

test("small chunks of a turn share frames, as many as a frame may have", () => {
  const chunks = Array.from({ length: 1_000 }, (_, seq) => chunkOf(seq, { tokens: 1, top: null }));
  const frames = framesOf(chunks);
  expect(frames.map((frame) => frame.length)).toEqual([
    WIRE_BOUNDS.chunksPerFrameMax,
    1_000 - WIRE_BOUNDS.chunksPerFrameMax,
  ]);
  expect(frames.flat()).toEqual(chunks);
});

test("chunks with twenty alternatives for each token are spread over frames by their bytes, in order", () => {
  const chunks = Array.from({ length: 60 }, (_, seq) =>
    chunkOf(seq, { tokens: WIRE_BOUNDS.tokensPerChunkMax, top: 20 }),
  );
  const frames = framesOf(chunks);
  expect(frames.length).toBeGreaterThan(1);
  expect(frames.flat()).toEqual(chunks);
  for (const frame of frames) {
    expect(JSON.stringify({ type: "attempt.chunks", chunks: frame }).length).toBeLessThanOrEqual(FRAME_BYTES_MAX);
  }
});
