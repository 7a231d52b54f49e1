import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { REFUSAL_CODES } from "../domain/refusal.ts";
import { FRAME_HEAD_BYTES } from "./peer-frame-bytes.ts";
import { PeerFrameReader } from "./peer-frame-reader.ts";
import { DATA_BYTES_MAX, MESSAGE_BYTES_MAX, type PeerFrame, writeDataHead, writeFrame } from "./peer-frames.ts";

const u32 = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const u48 = fc.integer({ min: 0, max: 2 ** 48 - 1 });
const bytes = (minLength: number, maxLength: number) => fc.uint8Array({ minLength, maxLength });
const role = fc.constantFrom("message" as const, "bulk" as const, "spare" as const);
const refusal = fc.record({
  code: fc.constantFrom(...REFUSAL_CODES),
  message: fc.string({ maxLength: 500, unit: "binary" }).map((text) => text.slice(0, 500).toWellFormed()),
  retryAfterMs: fc.option(fc.integer({ min: 0, max: 2 ** 32 - 2 })),
});
const credential = fc.string({ maxLength: 4_000 });
const share = fc.option(fc.integer({ min: 0, max: 65_534 }).map((code) => code / 65_534));

const ask = fc
  .record({
    stream: u32,
    offset: fc.integer({ min: 0, max: 2 ** 40 }),
    length: fc.integer({ min: 1, max: 2 ** 30 }),
    rest: fc.integer({ min: 0, max: 2 ** 40 }),
    request: bytes(0, 1_024),
  })
  .map(({ rest, ...fields }) => ({
    kind: "ask" as const,
    ...fields,
    totalBytes: fields.offset + fields.length + rest,
  }));

const frame: fc.Arbitrary<Exclude<PeerFrame, { kind: "data" }>> = fc.oneof(
  fc.record({ kind: fc.constant("hello" as const), version: fc.integer({ min: 0, max: 65_535 }), role, credential }),
  fc.record({
    kind: fc.constant("attach" as const),
    version: fc.integer({ min: 0, max: 65_535 }),
    role,
    number: u32,
    sessionId: bytes(16, 16),
    secret: bytes(32, 32),
  }),
  fc.record({ kind: fc.constant("accepted" as const), sessionId: bytes(16, 16), secret: bytes(32, 32) }),
  fc.constant({ kind: "attached" as const }),
  fc.record({ kind: fc.constant("refused" as const), id: u32, refusal }),
  fc.record({ kind: fc.constant("ping" as const), id: u32, lossShare: share }),
  fc.record({ kind: fc.constant("pong" as const), id: u32 }),
  fc.record({ kind: fc.constant("message" as const), seq: u48, bytes: bytes(0, 3_000) }),
  fc.record({ kind: fc.constant("ack" as const), seq: u48 }),
  ask,
  fc.record({ kind: fc.constant("fail" as const), stream: u32, refusal }),
  fc.record({ kind: fc.constant("stop" as const), stream: u32 }),
  fc.record({ kind: fc.constant("stopped" as const), stream: u32 }),
  fc.record({ kind: fc.constant("present" as const), id: u32, credential }),
  fc.record({ kind: fc.constant("presented" as const), id: u32 }),
  fc.record({ kind: fc.constant("goodbye" as const), reason: fc.string({ maxLength: 500 }) }),
);

/** Pushes the bytes in pieces of the given lengths, over and over. */
function readAll(whole: Uint8Array, lengths: readonly number[]): { frames: PeerFrame[]; wrong: string | null } {
  const reader = new PeerFrameReader(() => true);
  const frames: PeerFrame[] = [];
  let wrong: string | null = null;
  for (let at = 0, turn = 0; at < whole.length && wrong === null; turn++) {
    const length = Math.max(1, lengths[turn % lengths.length] ?? 1);
    wrong = reader.push(whole.subarray(at, at + length), (one) => {
      frames.push("bytes" in one ? { ...one, bytes: one.bytes.slice() } : structuredClone(one));
      return true;
    });
    at += length;
  }
  return { frames, wrong };
}

const lengths = fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1, maxLength: 8 });

describe("frames between nodes", () => {
  test("read as they were written, however the bytes are cut", () => {
    fc.assert(
      fc.property(fc.array(frame, { minLength: 1, maxLength: 6 }), lengths, (frames, cuts) => {
        const { frames: read, wrong } = readAll(new Uint8Array(Buffer.concat(frames.map(writeFrame))), cuts);
        expect(wrong).toBeNull();
        expect(read).toEqual(frames.map((one) => structuredClone(one)));
      }),
    );
  });

  test("hand on the bytes of bulk as they come, each part with its place", () => {
    fc.assert(
      fc.property(u32, fc.integer({ min: 0, max: 2 ** 40 }), bytes(1, 4_000), lengths, (stream, offset, body, cuts) => {
        const whole = Buffer.concat([
          writeDataHead({ stream, offset, length: body.length }),
          body,
          writeFrame({ kind: "ack", seq: 7 }),
        ]);
        const { frames: read, wrong } = readAll(whole, cuts);
        expect(wrong).toBeNull();
        expect(read.pop()).toEqual({ kind: "ack", seq: 7 });
        let at = offset;
        for (const part of read) {
          if (part.kind !== "data") throw new Error("only data came");
          expect([part.stream, part.offset]).toEqual([stream, at]);
          at += part.bytes.length;
        }
        expect(
          Buffer.concat(read.map((part) => (part.kind === "data" ? part.bytes : Buffer.alloc(0)))).equals(body),
        ).toBe(true);
      }),
    );
  });

  test("that are noise end in one named breach or in silence, and never throw", () => {
    fc.assert(
      fc.property(bytes(0, 600), lengths, (noise, cuts) => {
        const { wrong } = readAll(noise, cuts);
        expect(wrong === null || wrong.length > 0).toBe(true);
      }),
      { numRuns: 500 },
    );
  });

  test("that were damaged in one byte end in a breach or read as another frame, and never throw", () => {
    fc.assert(
      fc.property(frame, fc.nat(), fc.integer({ min: 1, max: 255 }), (one, where, change) => {
        const whole = writeFrame(one);
        const at = where % whole.length;
        whole[at] = (whole[at] ?? 0) ^ change;
        readAll(whole, [whole.length]);
      }),
      { numRuns: 500 },
    );
  });

  test("longer than their kind may be are refused by the head alone", () => {
    for (const [kind, length] of [
      [7, MESSAGE_BYTES_MAX + 7],
      [10, DATA_BYTES_MAX + 11],
      [5, 7],
      [0, 20_000],
      [99, 0],
    ] as const) {
      const head = new Uint8Array(FRAME_HEAD_BYTES);
      head[0] = kind;
      new DataView(head.buffer).setUint32(1, length);
      expect(readAll(head, [FRAME_HEAD_BYTES]).wrong, `kind ${kind}`).toMatch(/frame of/);
    }
  });

  test("of a kind that may not come at the time are refused", () => {
    const reader = new PeerFrameReader((kind) => kind === "hello");
    expect(reader.push(writeFrame({ kind: "ack", seq: 1 }), () => true)).toMatch(/ack/);
  });

  test("that ask for nothing, or beyond the end, are no frames", () => {
    const asked = {
      kind: "ask",
      stream: 1,
      offset: 10,
      length: 5,
      totalBytes: 14,
      request: new Uint8Array(0),
    } as const;
    expect(readAll(writeFrame(asked), [100]).wrong).toMatch(/ask/);
    expect(readAll(writeFrame({ ...asked, totalBytes: 15, length: 0 }), [100]).wrong).toMatch(/ask/);
  });
});
