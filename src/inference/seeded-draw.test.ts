import { createHmac, randomBytes } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { sha256Hex } from "../domain/ids.ts";
import { SeededDraw, seedBytes } from "./seeded-draw.ts";
import { BLOCK_WORDS, compress, hmacStates, SCHEDULE_WORDS } from "./sha256.ts";

/** The specification in docs/sampling.md, by another implementation of HMAC. */
function expectedUint53(seed: Uint8Array, choice: number, position: number, tokenId: number): number {
  const message = Buffer.alloc(16);
  message.write("gs1\0", 0, "latin1");
  message.writeUInt32BE(choice, 4);
  message.writeUInt32BE(position, 8);
  message.writeUInt32BE(tokenId, 12);
  const digest = createHmac("sha256", seed).update(message).digest();
  return Number(digest.readBigUInt64BE(0) >> 11n);
}

describe("seeded draws", () => {
  test("are the first 53 bits of the HMAC of choice, position and token", () => {
    const u32 = fc.integer({ min: 0, max: 0xffffffff });
    const seed = fc.uint8Array({ minLength: 32, maxLength: 32 });
    fc.assert(
      fc.property(seed, u32, u32, u32, (key, choice, position, tokenId) => {
        const draw = new SeededDraw(key, choice);
        expect(draw.uint53(position, tokenId)).toBe(expectedUint53(key, choice, position, tokenId));
      }),
    );
  });

  test("do not depend on the order in which they are asked for", () => {
    const draw = new SeededDraw(randomBytes(32), 3);
    const first = [draw.uint53(0, 5), draw.uint53(7, 5), draw.uint53(0, 6)];
    expect([draw.uint53(0, 5), draw.uint53(7, 5), draw.uint53(0, 6)]).toEqual(first);
  });

  test("have the moments of the Gumbel distribution", () => {
    const draw = new SeededDraw(seedBytes(sha256Hex("5a".repeat(32))), 0);
    const count = 20_000;
    const values = Array.from({ length: count }, (_, index) => draw.gumbel(index >> 6, index & 63));
    const mean = values.reduce((sum, value) => sum + value, 0) / count;
    const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / count;
    // Euler's constant and pi^2 / 6, within five standard errors.
    expect(Math.abs(mean - 0.5772)).toBeLessThan(0.046);
    expect(Math.abs(variance - 1.6449)).toBeLessThan(0.12);
  });

  test("the test vectors of docs/sampling.md hold", () => {
    const draw = new SeededDraw(seedBytes(sha256Hex("000102030405060708090a0b0c0d0e0f".repeat(2))), 1);
    expect(draw.uint53(0, 0)).toBe(2_259_225_550_741_133);
    expect(draw.uint53(41, 1234)).toBe(5_680_390_207_567_794);
    expect(draw.uint53(4_000_000_000, 151_935)).toBe(2_026_396_012_035_657);
  });
});

test("HMAC from the stored states equals node's", () => {
  const key = fc.uint8Array({ maxLength: 64 });
  const message = fc.uint8Array({ maxLength: 55 });
  fc.assert(
    fc.property(key, message, (keyBytes, messageBytes) => {
      const expected = createHmac("sha256", keyBytes).update(messageBytes).digest("hex");
      expect(hmacHex(keyBytes, messageBytes)).toBe(expected);
    }),
  );
});

function hmacHex(key: Uint8Array, message: Uint8Array): string {
  const states = hmacStates(key);
  const inner = new Int32Array(8);
  compress(states.inner, paddedBlock(message), inner);
  const digest = Buffer.alloc(32);
  for (const [index, word] of inner.entries()) digest.writeInt32BE(word, 4 * index);
  const outer = new Int32Array(8);
  compress(states.outer, paddedBlock(digest), outer);
  for (const [index, word] of outer.entries()) digest.writeInt32BE(word, 4 * index);
  return digest.toString("hex");
}

/** One block after a block of 64 bytes. */
function paddedBlock(message: Uint8Array): Int32Array {
  const bytes = Buffer.alloc(4 * BLOCK_WORDS);
  bytes.set(message);
  bytes[message.length] = 0x80;
  bytes.writeUInt32BE((64 + message.length) * 8, 60);
  const schedule = new Int32Array(SCHEDULE_WORDS);
  for (let word = 0; word < BLOCK_WORDS; word++) schedule[word] = bytes.readInt32BE(4 * word);
  return schedule;
}
