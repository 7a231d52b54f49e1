import fc from "fast-check";
import { expect, test } from "vitest";
import { sha256Hex } from "../domain/ids.ts";
import { CHUNKS_MAX } from "../domain/weights.ts";
import { CHUNK_REQUEST_BYTES, decodeChunkRequest, encodeChunkRequest } from "./chunk-request.ts";

const digests = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes).toString("hex"));

test("a request says the same after it was sent", () => {
  fc.assert(
    fc.property(digests, fc.nat(CHUNKS_MAX - 1), (digest, chunk) => {
      const request = { weightsSha256: sha256Hex(digest), chunk };
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
