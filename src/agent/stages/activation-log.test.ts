import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { sequenceId } from "../../domain/chain.ts";
import type { ActivationSpill } from "../../ports/activation-spill.ts";
import { ActivationLog, type LoggedPiece } from "./activation-log.ts";

const ONE = sequenceId("0000000000000001");
const TWO = sequenceId("0000000000000002");
const STRIDE = 4;
const ALL = { bytesMax: 1 << 20, positionsMax: 1_000 };

class MemorySpill implements ActivationSpill {
  readonly files = new Map<string, Uint8Array>();
  async append(sequence: string, bytes: Uint8Array): Promise<number> {
    const before = this.files.get(sequence) ?? new Uint8Array(0);
    this.files.set(sequence, Buffer.concat([before, bytes]));
    return before.length;
  }
  async read(sequence: string, { offset, length }: { offset: number; length: number }): Promise<Uint8Array> {
    return (this.files.get(sequence) ?? new Uint8Array(0)).subarray(offset, offset + length);
  }
  async drop(sequence: string): Promise<void> {
    this.files.delete(sequence);
  }
  async close(): Promise<void> {
    this.files.clear();
  }
}

/** Tells a while later that it has the bytes, as a disk does. */
class SlowSpill extends MemorySpill {
  override async append(sequence: string, bytes: Uint8Array): Promise<number> {
    const offset = await super.append(sequence, bytes);
    for (let turn = 0; turn < 4; turn++) await Promise.resolve();
    return offset;
  }
}

function openLog({ memoryBytesMax = 1 << 20, spillBytesMax = 1 << 20, spill = null as ActivationSpill | null } = {}) {
  return new ActivationLog({
    memoryBytesMax,
    spillBytesMax,
    spill,
    onFault: (fault) => {
      throw fault;
    },
  });
}

/** Each position's bytes tell the position and the generation that computed it. */
function output(start: number, count: number, how: LoggedPiece["how"], generation = 0) {
  const data = Uint8Array.from({ length: count * STRIDE }, (_, at) => (at % 2 === 0 ? start + (at >> 2) : generation));
  return { start, count, how, format: "f16" as const, data, draw: null };
}

async function readAll(log: ActivationLog, from: number, options = ALL): Promise<readonly LoggedPiece[]> {
  const pieces: LoggedPiece[] = [];
  for (let at = from; at < log.endOf(ONE); ) {
    const piece = await log.read(ONE, at, options);
    if (piece === null) throw new Error(`nothing at ${at}`);
    pieces.push(piece);
    at = piece.start + piece.count;
  }
  return pieces;
}

describe("the log of activations", () => {
  test("gives back each position as it was computed last, and as it was decoded", async () => {
    const step = fc.record({
      back: fc.integer({ min: 0, max: 5 }),
      count: fc.integer({ min: 1, max: 40 }),
      isSingly: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { minLength: 1, maxLength: 12 }),
        fc.nat(),
        fc.integer({ min: 2, max: 50 }),
        fc.constantFrom(
          null,
          () => new MemorySpill(),
          () => new SlowSpill(),
        ),
        async (steps, place, positionsMax, spill) => {
          const isSpilled = spill !== null;
          const log = openLog(isSpilled ? { memoryBytesMax: 60, spill: spill() } : {});
          let kept: { how: string; generation: number }[] = [];
          for (const [generation, { back, count, isSingly }] of steps.entries()) {
            const start = Math.max(0, kept.length - back);
            const how = isSingly ? ("singly" as const) : ("together" as const);
            log.keep(ONE, output(start, count, how, generation));
            kept = [...kept.slice(0, start), ...Array.from({ length: count }, () => ({ how, generation }))];
            await Promise.resolve();
          }
          const from = place % kept.length;
          if (!log.covers(ONE, from)) return void expect(isSpilled).toBe(true); // beyond twice the memory
          let at = from;
          for (const piece of await readAll(log, from, { bytesMax: 1 << 20, positionsMax })) {
            expect(piece.start === at || (piece.how === "together" && piece.start === at - 1)).toBe(true);
            for (let position = piece.start; position < piece.start + piece.count; position++) {
              expect(piece.how).toBe(kept[position]?.how);
              expect(piece.data[(position - piece.start) * STRIDE]).toBe(position & 255);
              expect(piece.data[(position - piece.start) * STRIDE + 1]).toBe(kept[position]?.generation);
            }
            at = piece.start + piece.count;
          }
          expect(at).toBe(kept.length);
        },
      ),
      { numRuns: 300 },
    );
  });

  test("gives what took the place of rejected drafts though the disk had begun to write those", async () => {
    const log = openLog({ memoryBytesMax: 60, spill: new SlowSpill() });
    log.keep(ONE, output(0, 10, "singly", 1));
    log.keep(ONE, output(10, 10, "together", 1));
    // What is behind the seventh is computed again, and stands where the disk takes it from.
    log.keep(ONE, output(7, 2, "singly", 2));
    for (let turn = 0; turn < 20; turn++) await Promise.resolve();
    const [piece] = await readAll(log, 6);
    expect([...(piece?.data ?? [])].filter((_, at) => at % STRIDE === 1)).toEqual([1, 2, 2]);
  });

  test("leaves no single position where a prompt was decoded together", async () => {
    const log = openLog();
    log.keep(ONE, output(0, 3, "together"));
    log.keep(ONE, output(1, 2, "together"));
    const [first, second] = [await log.read(ONE, 0, ALL), await log.read(ONE, 2, ALL)];
    expect([first?.start, first?.count]).toEqual([0, 3]);
    expect([second?.start, second?.count]).toEqual([1, 2]);
    const [, last] = await readAll(log, 0, { bytesMax: 1 << 20, positionsMax: 2 });
    expect(last).toBeUndefined();
  });

  test("keeps what is drawn after the end, and nothing that was drawn before", async () => {
    const log = openLog();
    log.keep(ONE, { ...output(0, 2, "together"), draw: { draftIds: [] } });
    log.keep(ONE, { ...output(2, 3, "singly"), draw: { draftIds: [7, 8] } });
    const [prompt, rest] = await readAll(log, 0);
    expect([prompt?.draw, rest?.draw]).toEqual([null, { draftIds: [7, 8] }]);
  });

  test("begins anew behind a hole", () => {
    const log = openLog();
    log.keep(ONE, output(0, 4, "singly"));
    log.keep(ONE, output(9, 1, "singly"));
    expect([log.covers(ONE, 3), log.covers(ONE, 9), log.endOf(ONE)]).toEqual([false, true, 10]);
  });

  test("lets go of what rests before what runs, and stays within its bound", () => {
    const log = openLog({ memoryBytesMax: 400 });
    log.keep(TWO, output(0, 50, "together"));
    log.keep(ONE, output(0, 40, "together"));
    expect([log.covers(TWO, 0), log.covers(ONE, 0)]).toEqual([true, true]);
    log.rest(ONE);
    log.keep(TWO, output(50, 20, "together"));
    expect([log.covers(TWO, 0), log.covers(ONE, 0)]).toEqual([true, false]);
    for (let at = 70; at < 900; at++) log.keep(TWO, output(at, 1, "singly"));
    expect(log.memoryBytes).toBeLessThanOrEqual(400 + 32 * STRIDE);
    expect(log.covers(TWO, 0)).toBe(false);
  });

  test("goes to disk beyond its memory, and lets go of it with the sequence", async () => {
    const spill = new MemorySpill();
    const log = openLog({ memoryBytesMax: 4_000, spill });
    for (let at = 0; at < 60; at++) {
      log.keep(ONE, output(at * 20, 20, "together"));
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(log.memoryBytes).toBeLessThanOrEqual(4_000);
    expect(log.spilledBytes).toBeGreaterThan(0);
    expect(log.covers(ONE, 0)).toBe(true);
    const first = await log.read(ONE, 0, { bytesMax: 400, positionsMax: 100 });
    expect(first?.data).toEqual(Uint8Array.from({ length: 400 }, (_, at) => (at % 2 === 0 ? at >> 2 : 0)));
    log.drop(ONE);
    expect([log.memoryBytes, log.spilledBytes, spill.files.size]).toEqual([0, 0, 0]);
  });

  test("tells once that the disk is full, writes nothing more, and stays within its memory", async () => {
    const faults: unknown[] = [];
    let writes = 0;
    const full = new MemorySpill();
    full.append = () => {
      writes += 1;
      return Promise.reject(new Error("ENOSPC"));
    };
    const options = { memoryBytesMax: 4_000, spillBytesMax: 8_000, spill: full };
    const log = new ActivationLog({ ...options, onFault: (fault) => faults.push(fault) });
    for (let at = 0; at < 200; at++) {
      log.keep(at % 2 === 0 ? ONE : TWO, output(Math.floor(at / 2) * 20, 20, "together"));
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect([faults.length, writes <= 2]).toEqual([1, true]);
    expect(log.memoryBytes).toBeLessThanOrEqual(4_000);
    // What is there is the end of what runs, and none of it went for the sake of bytes that are on no disk.
    expect(log.covers(TWO, 100 * 20 - 20)).toBe(true);
  });
});
