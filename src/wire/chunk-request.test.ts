import fc from "fast-check";
import { expect, test } from "vitest";
import { sha256Hex } from "../domain/ids.ts";
import { CHUNK_BYTES_MAX, CHUNKS_MAX } from "../domain/weights.ts";
import { CHUNK_REQUEST_BYTES, decodeChunkRequest, encodeChunkRequest, PART_REQUEST_BYTES } from "./chunk-request.ts";

const digests = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes).toString("hex"));
const parts = fc.option(fc.record({ offset: fc.nat(2 ** 23), length: fc.integer({ min: 1, max: 2 ** 23 }) }));

test("a request says the same after it was sent", () => {
  fc.assert(
    fc.property(digests, fc.nat(CHUNKS_MAX - 1), parts, (digest, chunk, part) => {
      const request = { weightsSha256: sha256Hex(digest), chunk, part };
      // As it lies in a larger buffer, where a reader takes it from.
      const sent = Buffer.concat([Buffer.alloc(3), encodeChunkRequest(request)]).subarray(3);
      expect(decodeChunkRequest(sent)).toEqual(request);
    }),
  );
});

test("any bytes are a request or nothing", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
      const request = decodeChunkRequest(bytes);
      if (request !== null) expect(encodeChunkRequest(request)).toEqual(bytes);
    }),
  );
  const huge = new Uint8Array(CHUNK_REQUEST_BYTES).fill(0xff);
  huge[0] = 1;
  expect(decodeChunkRequest(huge)).toBeNull();
  huge[0] = 2;
  expect(decodeChunkRequest(huge.fill(0, 1))).toBeNull();
});

test("a part of no bytes, or beyond the largest chunk, is no request", () => {
  const request = { weightsSha256: sha256Hex("ab".repeat(32)), chunk: 3, part: { offset: 5, length: 7 } };
  const bytes = encodeChunkRequest(request);
  expect(decodeChunkRequest(bytes)).toEqual(request);
  const view = new DataView(bytes.buffer);
  view.setUint32(PART_REQUEST_BYTES - 4, 0);
  expect(decodeChunkRequest(bytes)).toBeNull();
  view.setUint32(PART_REQUEST_BYTES - 4, CHUNK_BYTES_MAX - 4);
  expect(decodeChunkRequest(bytes)).toBeNull();
});
