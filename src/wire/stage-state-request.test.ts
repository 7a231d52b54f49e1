import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { sequenceId } from "../domain/chain.ts";
import { sha256Hex } from "../domain/ids.ts";
import { decodeChunkRequest } from "./chunk-request.ts";
import { HOLDINGS_MAX } from "./stage-frames.ts";
import {
  decodePrepared,
  decodeStateList,
  decodeStateRequest,
  encodePrepared,
  encodeStateList,
  encodeStateRequest,
  PREPARED_BYTES,
  STATE_LIST_BYTES,
  type StageStateRequest,
} from "./stage-state-request.ts";

const hexOf = (bytes: number) =>
  fc.uint8Array({ minLength: bytes, maxLength: bytes }).map((value) => Buffer.from(value).toString("hex"));
const place = fc.record({ chainId: hexOf(16), first: fc.integer({ min: 0, max: 4_096 }) });
const sequence = hexOf(8).map(sequenceId);
const digest = hexOf(32).map(sha256Hex);
const request: fc.Arbitrary<StageStateRequest> = fc.oneof(
  place.map((of) => ({ ...of, kind: "list" as const })),
  fc.tuple(place, sequence).map(([of, name]) => ({ ...of, kind: "prepare" as const, sequence: name })),
  fc
    .tuple(place, sequence, digest)
    .map(([of, name, sha256]) => ({ ...of, kind: "state" as const, sequence: name, sha256 })),
);

describe("requests for keys and values", () => {
  test("say what was put into them, and are no requests for weights", () => {
    fc.assert(
      fc.property(request, (original) => {
        const bytes = encodeStateRequest(original);
        expect(decodeStateRequest(bytes)).toEqual(original);
        expect(decodeChunkRequest(bytes)).toBeNull();
        expect(decodeStateRequest(bytes.subarray(0, bytes.length - 1))).toBeNull();
        expect(decodeStateRequest(Buffer.concat([bytes, Buffer.from([0])]))).toBeNull();
      }),
    );
  });

  test("are answered in the length that the asker knows", () => {
    const held = fc.array(fc.record({ sequence, held: fc.integer({ min: 0, max: 2 ** 20 }) }), {
      maxLength: HOLDINGS_MAX,
    });
    fc.assert(
      fc.property(held, (list) => {
        const bytes = encodeStateList(list);
        expect(bytes.length).toBe(STATE_LIST_BYTES);
        expect(decodeStateList(bytes)).toEqual(list);
      }),
      { numRuns: 20 },
    );
    const prepared = fc.record({ positions: fc.integer({ min: 1 }), bytes: fc.integer({ min: 1 }), sha256: digest });
    fc.assert(
      fc.property(prepared, (one) => {
        const bytes = encodePrepared(one);
        expect(bytes.length).toBe(PREPARED_BYTES);
        expect(decodePrepared(bytes)).toEqual(one);
      }),
    );
    expect(decodePrepared(encodePrepared(null))).toBeNull();
  });

  test("and their answers never throw, whatever comes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 80 }), (junk) => {
        const bytes = Uint8Array.from([0x53, 1, ...junk]);
        const decoded = decodeStateRequest(bytes);
        if (decoded !== null) expect(Buffer.compare(encodeStateRequest(decoded), bytes)).toBe(0);
        decodeStateList(junk);
        decodePrepared(junk);
      }),
      { numRuns: 2_000 },
    );
  });
});
