import { crc32 as zlibCrc32 } from "node:zlib";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { sequenceId } from "../domain/chain.ts";
import { crc32 } from "./crc32.ts";
import {
  ACTIVATIONS_HEAD_BYTES,
  activationEntryBytes,
  decodeStageFrame,
  ELEMENT_BYTES,
  encodeStageFrame,
} from "./stage-frame-codec.ts";
import { type ActivationEntry, DRAFTS_MAX, type StageFrame, stageChannel } from "./stage-frames.ts";

const u32 = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const head = fc.record({ channel: u32, chainEpoch: u32, frame: u32 });
const hexOf = (bytes: number) =>
  fc.uint8Array({ minLength: bytes, maxLength: bytes }).map((value) => Buffer.from(value).toString("hex"));
const lease = fc.record({ sequence: hexOf(8).map(sequenceId), leaseEpoch: fc.maxSafeNat() });
const tokenIds = (max: number) => fc.array(fc.integer({ min: 0, max: 2 ** 31 - 1 }), { maxLength: max });
const held = fc.integer({ min: 0, max: 1_048_576 });

const entry: fc.Arbitrary<ActivationEntry> = fc
  .tuple(
    lease,
    tokenIds(DRAFTS_MAX),
    fc.integer({ min: 1, max: 4 }),
    fc.boolean(),
    fc.boolean(),
    fc.boolean(),
    held,
    held,
  )
  .map(([names, draftIds, more, isDrawn, isSingly, isRebuild, start, promptLength]) => ({
    ...names,
    start,
    count: (isDrawn ? draftIds.length : 0) + more,
    how: isSingly ? ("singly" as const) : ("together" as const),
    draw: isDrawn ? { draftIds } : null,
    promptLength,
    isRebuild,
  }));

const activations = fc
  .tuple(
    head,
    fc.constantFrom("f16" as const, "f32" as const),
    fc.array(entry, { minLength: 1, maxLength: 6 }),
    fc.integer({ min: 1, max: 9 }),
  )
  .map(([names, format, entries, width]): StageFrame => {
    const positions = entries.reduce((sum, { count }) => sum + count, 0);
    const data = Uint8Array.from({ length: positions * width * ELEMENT_BYTES[format] }, (_, at) => at * 31);
    return { ...names, type: "activations", format, entries, data };
  });

const ms = fc.double({ min: 0, max: 1e12, noNaN: true, noDefaultInfinity: true }).map((value) => value + 0);
const frame: fc.Arbitrary<StageFrame> = fc.oneof(
  activations,
  fc
    .tuple(
      head,
      hexOf(16),
      fc.integer({ min: 0, max: 31 }),
      u32,
      fc.array(fc.record({ sequence: hexOf(8).map(sequenceId), held }), { maxLength: 9 }),
    )
    .map(
      ([names, chainId, stage, embeddingLength, holdings]): StageFrame => ({
        ...names,
        type: "hello",
        chainId,
        stage,
        embeddingLength,
        holdings,
      }),
    ),
  fc
    .tuple(
      head,
      fc.array(
        fc.tuple(
          lease,
          held,
          tokenIds(DRAFTS_MAX + 1),
          fc.constantFrom("length" as const, "stop-token" as const, null),
        ),
        { minLength: 1, maxLength: 5 },
      ),
    )
    .map(
      ([names, entries]): StageFrame => ({
        ...names,
        type: "tokens",
        entries: entries.map(([of, position, ids, end]) => ({
          ...of,
          position,
          tokenIds: ids,
          end: ids.length === 0 ? (end ?? "length") : end,
        })),
      }),
    ),
  fc.tuple(head, lease, held).map(([names, of, at]): StageFrame => ({ ...names, ...of, type: "gap", held: at })),
  fc.tuple(head, fc.maxSafeNat()).map(([names, taken]): StageFrame => ({ ...names, type: "credit", taken })),
  fc.tuple(head, lease).map(([names, of]): StageFrame => ({ ...names, ...of, type: "release" })),
  fc
    .tuple(head, ms, fc.option(ms))
    .map(([names, sentAtMs, echoMs]): StageFrame => ({ ...names, type: "pulse", sentAtMs, echoMs })),
);

function refusalOf(bytes: Uint8Array): string {
  const decoded = decodeStageFrame(bytes);
  return decoded.ok ? "taken" : decoded.code;
}

/** With its checksum made right again. */
function sealed(bytes: Uint8Array): Uint8Array {
  const copy = Uint8Array.from(bytes);
  new DataView(copy.buffer).setUint32(16, crc32(copy.subarray(20)), true);
  return copy;
}

const ONE: StageFrame = {
  type: "activations",
  channel: 7,
  chainEpoch: 3,
  frame: 0,
  format: "f16",
  entries: [
    {
      sequence: sequenceId("00112233445566ff"),
      leaseEpoch: 2 ** 40 + 5,
      start: 17,
      count: 1,
      how: "singly",
      draw: { draftIds: [] },
      promptLength: 9,
      isRebuild: false,
    },
  ],
  data: new Uint8Array(128),
};

describe("the bytes of stage frames", () => {
  test("say what was put into them, and nothing else", () => {
    fc.assert(
      fc.property(frame, (original) => {
        const bytes = encodeStageFrame(original);
        expect(decodeStageFrame(bytes)).toEqual({ ok: true, frame: original });
      }),
    );
  });

  test("cost a token 49 bytes beside its hidden state, of at most 64", () => {
    const bytes = encodeStageFrame(ONE);
    expect(bytes.length - 128).toBe(49);
    expect(ACTIVATIONS_HEAD_BYTES + activationEntryBytes({ draw: null })).toBe(49);
  });

  test("are refused wherever they are cut, and when anything follows them", () => {
    fc.assert(
      fc.property(frame, fc.double({ min: 0, max: 0.999, noNaN: true }), (original, share) => {
        const bytes = encodeStageFrame(original);
        const cut = bytes.subarray(0, Math.floor(bytes.length * share));
        expect(decodeStageFrame(cut).ok).toBe(false);
        if (original.type === "activations") return;
        expect(refusalOf(sealed(Buffer.concat([bytes, Buffer.from([1])])))).not.toBe("taken");
      }),
    );
  });

  test("are refused when a bit of them was turned, but for the numbers in the head", () => {
    fc.assert(
      fc.property(frame, fc.nat(), (original, place) => {
        const bytes = Uint8Array.from(encodeStageFrame(original));
        const body = bytes.length - 20;
        const bit = place % (body * 8);
        const at = 20 + (bit >> 3);
        bytes[at] = (bytes[at] ?? 0) ^ (1 << (bit & 7));
        expect(refusalOf(bytes)).toBe("frame-damaged");
      }),
    );
  });

  test("never throw, whatever comes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.integer({ min: 0, max: 8 }), (junk, type) => {
        decodeStageFrame(junk);
        const bytes = Uint8Array.from(junk);
        bytes.set([type, 1].slice(0, bytes.length));
        const decoded = decodeStageFrame(bytes.length >= 20 ? sealed(bytes) : bytes);
        if (decoded.ok) expect(decodeStageFrame(encodeStageFrame(decoded.frame))).toEqual(decoded);
      }),
      { numRuns: 3_000 },
    );
  });

  test("are refused by name", () => {
    const bytes = encodeStageFrame(ONE);
    const changed = (at: number, value: number) => {
      const copy = Uint8Array.from(bytes);
      copy[at] = value;
      return sealed(copy);
    };
    expect(refusalOf(bytes.subarray(0, 19))).toBe("frame-short");
    expect(refusalOf(changed(1, 9))).toBe("frame-version");
    expect(refusalOf(changed(0, 0))).toBe("frame-type");
    expect(refusalOf(changed(0, 8))).toBe("frame-type");
    expect(refusalOf(changed(2, 0))).toBe("frame-malformed"); // no entries
    expect(refusalOf(changed(20, 2))).toBe("frame-malformed"); // no such format
    expect(refusalOf(changed(36, 15))).toBe("frame-malformed"); // no such flags
    expect(refusalOf(changed(37, 1))).toBe("frame-malformed"); // as many drafts as positions
    expect(refusalOf(changed(41, 0))).toBe("frame-malformed"); // no positions
    expect(refusalOf(changed(41, 3))).toBe("frame-width");
    expect(refusalOf(sealed(bytes.subarray(0, bytes.length - 1)))).toBe("frame-width");
  });

  test("have the checksum of zip", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
        expect(crc32(bytes)).toBe(zlibCrc32(bytes));
      }),
    );
  });

  test("go by channels that differ between the stages of a chain", () => {
    const chainId = "f".repeat(32);
    const channels = Array.from({ length: 32 }, (_, stage) => stageChannel({ chainId, stage }));
    expect(new Set(channels).size).toBe(32);
    expect(Math.max(...channels)).toBe(2 ** 32 - 1);
  });
});
