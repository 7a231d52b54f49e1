/** What every carrier between nodes keeps, whatever carries the bytes. Each carrier's test hands in how two of its ends come to be. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { FallowError } from "../../src/domain/fault.ts";
import type { PeerTarget } from "../../src/domain/peer.ts";
import { CONNECTION_BUFFER_BYTES, type PeerCarrier, type PeerConnection } from "../../src/ports/peer-carrier.ts";

export interface CarrierEnds {
  readonly near: PeerCarrier;
  readonly far: PeerCarrier;
  readonly nearKeyHex: string;
  /** How `near` reaches `far`. */
  readonly target: PeerTarget;
  /** Lets time pass until the condition holds; throws when it never does. */
  until(isReached: () => boolean): Promise<void>;
  stop(): Promise<void>;
}

/** What one end has seen. */
interface Seen {
  readonly parts: Uint8Array[];
  bytes: number;
  drains: number;
  readonly closes: string[];
}

const MORE_THAN_ANY_BUFFER_BYTES = 32 * 1024 * 1024;
const PIECE_BYTES = 64 * 1024;

export function peerCarrierContract(name: string, open: () => Promise<CarrierEnds>): void {
  describe(`the carrier ${name}`, () => {
    let ends: CarrierEnds;
    let accepted: PeerConnection[];
    const signal = () => new AbortController().signal;

    beforeEach(async () => {
      ends = await open();
      accepted = [];
      ends.far.onConnection((connection) => accepted.push(connection));
      ends.near.onConnection((connection) => connection.destroy());
    });
    afterEach(async () => {
      await ends.near.close();
      await ends.far.close();
      await ends.stop();
    });

    const pair = async (): Promise<{ near: PeerConnection; far: PeerConnection }> => {
      const near = await ends.near.dial(ends.target, signal());
      await ends.until(() => accepted.length > 0);
      const far = accepted.shift();
      if (far === undefined) throw new Error("a connection was accepted");
      return { near, far };
    };
    const watch = (connection: PeerConnection): Seen => {
      const seen: Seen = { parts: [], bytes: 0, drains: 0, closes: [] };
      connection.listen({
        onBytes: (bytes) => {
          seen.parts.push(Uint8Array.from(bytes));
          seen.bytes += bytes.length;
        },
        onDrain: () => {
          seen.drains++;
        },
        onClose: (cause) => seen.closes.push(cause),
      });
      return seen;
    };

    test("each end learns the key that the other proved", async () => {
      const { near, far } = await pair();
      expect(near.peerKeyHex).toBe(ends.target.publicKeyHex);
      expect(far.peerKeyHex).toBe(ends.nearKeyHex);
      expect([near.carrier, far.carrier]).toEqual([ends.near.kind, ends.far.kind]);
    });

    test("bytes come whole and in order, both ways at once", async () => {
      const { near, far } = await pair();
      const [atNear, atFar] = [watch(near), watch(far)];
      const sent = Array.from({ length: 20 }, (_, index) => pattern(1 + index * 7_919, index));
      for (const part of sent) {
        near.write(part);
        far.write(part);
      }
      const total = sent.reduce((sum, part) => sum + part.length, 0);
      await ends.until(() => atNear.bytes === total && atFar.bytes === total);
      expect(Buffer.concat(atNear.parts).equals(Buffer.concat(sent))).toBe(true);
      expect(Buffer.concat(atFar.parts).equals(Buffer.concat(sent))).toBe(true);
    });

    test("what comes before anybody listens waits", async () => {
      const { near, far } = await pair();
      watch(near);
      near.write(pattern(50_000, 1));
      near.write(pattern(10, 2));
      await turn(ends);
      const atFar = watch(far);
      await ends.until(() => atFar.bytes === 50_010);
      expect(Buffer.concat(atFar.parts).equals(Buffer.concat([pattern(50_000, 1), pattern(10, 2)]))).toBe(true);
    });

    test("a reader that pauses holds the sender up, and lets him go on", async () => {
      const { near, far } = await pair();
      const [atNear, atFar] = [watch(near), watch(far)];
      far.pause();
      let written = 0;
      while (written < MORE_THAN_ANY_BUFFER_BYTES && near.write(pattern(PIECE_BYTES, written / PIECE_BYTES))) {
        written += PIECE_BYTES;
        if (written % (16 * PIECE_BYTES) === 0) await turn(ends);
      }
      written += PIECE_BYTES;
      expect(written).toBeLessThan(MORE_THAN_ANY_BUFFER_BYTES);
      expect(near.bufferedBytes()).toBeGreaterThan(0);
      expect(near.bufferedBytes()).toBeLessThan(CONNECTION_BUFFER_BYTES + 4 * PIECE_BYTES);
      far.resume();
      await ends.until(() => atFar.bytes === written && atNear.drains > 0);
      let index = 0;
      for (const piece of pieces(Buffer.concat(atFar.parts)))
        expect(piece.equals(pattern(PIECE_BYTES, index++))).toBe(true);
    });

    test("closing comes after what is queued, once at each end", async () => {
      const { near, far } = await pair();
      const [atNear, atFar] = [watch(near), watch(far)];
      near.write(pattern(200_000, 3));
      near.close();
      near.close();
      near.write(pattern(10, 4));
      await ends.until(() => atNear.closes.length > 0 && atFar.closes.length > 0);
      await turn(ends);
      expect([atNear.closes.length, atFar.closes.length]).toEqual([1, 1]);
      expect(atFar.bytes).toBe(200_000);
    });

    test("one that is destroyed ends at both ends, and takes no more", async () => {
      const { near, far } = await pair();
      const [atNear, atFar] = [watch(near), watch(far)];
      far.destroy();
      await ends.until(() => atNear.closes.length > 0 && atFar.closes.length > 0);
      near.write(pattern(10, 5));
      near.destroy();
      await turn(ends);
      expect([atNear.closes.length, atFar.closes.length]).toEqual([1, 1]);
    });

    test("one that ended before anybody listened says so to who listens", async () => {
      const { near, far } = await pair();
      const atNear = watch(near);
      near.destroy();
      await ends.until(() => atNear.closes.length > 0);
      const atFar = watch(far);
      await ends.until(() => atFar.closes.length > 0);
      expect(atFar.closes).toHaveLength(1);
    });

    test("several connections with one node are apart", async () => {
      const first = await pair();
      const second = await pair();
      const [atFirst, atSecond] = [watch(first.far), watch(second.far)];
      watch(first.near);
      watch(second.near);
      first.near.write(pattern(1_000, 6));
      second.near.write(pattern(2_000, 7));
      await ends.until(() => atFirst.bytes === 1_000 && atSecond.bytes === 2_000);
      first.near.destroy();
      await ends.until(() => atFirst.closes.length > 0);
      second.near.write(pattern(5, 8));
      await ends.until(() => atSecond.bytes === 2_005);
    });

    test("a node with another key than the one wanted is never taken for it", async () => {
      const stranger = { ...ends.target, publicKeyHex: `${"ab".repeat(31)}cd` };
      const fault = await ends.near.dial(stranger, signal()).catch((caught: unknown) => caught);
      expect(fault).toBeInstanceOf(FallowError);
      expect(fault instanceof FallowError ? fault.code : "").toMatch(/^peer-(identity-mismatch|unreachable)$/);
    });

    test("a dial that is given up rejects", async () => {
      const fault = await ends.near
        .dial(ends.target, AbortSignal.abort(new Error("given up")))
        .catch((caught: unknown) => caught);
      expect(fault instanceof FallowError ? fault.code : String(fault)).toBe("peer-unreachable");
    });

    test("a carrier that closes ends its connections, and closes once", async () => {
      const { near, far } = await pair();
      const [atNear, atFar] = [watch(near), watch(far)];
      await ends.far.close();
      await ends.far.close();
      await ends.until(() => atNear.closes.length > 0 && atFar.closes.length > 0);
    });
  });
}

/** A few turns of whatever time the ends live in. */
async function turn(ends: CarrierEnds): Promise<void> {
  let turns = 0;
  await ends.until(() => ++turns > 3);
}

function pattern(length: number, salt: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; at++) bytes[at] = (at * 31 + salt * 17) & 0xff;
  return bytes;
}

function* pieces(bytes: Buffer): Iterable<Buffer> {
  for (let at = 0; at < bytes.length; at += PIECE_BYTES) yield bytes.subarray(at, at + PIECE_BYTES);
}
