/** A stage's files without bytes, and its disk for what it sent: that takes its time, and is lost with the process. */
import { assert } from "../../domain/assert.ts";
import type { SequenceId } from "../../domain/chain.ts";
import { FallowError } from "../../domain/fault.ts";
import type { ActivationSpill } from "../../ports/activation-spill.ts";
import type { StageFiles } from "../../ports/stage-files.ts";
import type { Host } from "../time/host.ts";

/** Cutting a small stage from its model's file. */
const CUT_MS = 5;
const WRITE_MS = 2;
const READ_MS = 1;

export function simStageFiles(host: Host): StageFiles {
  return {
    ensure: async ({ weightsPath, share }, { signal }) => {
      await host.pause(CUT_MS);
      if (signal.aborted) throw new FallowError("weights-short", "cutting the stage's file was given up");
      return `${weightsPath}#${share.first}+${share.count}`;
    },
    rest: () => undefined,
  };
}

export function simSpill(host: Host): ActivationSpill {
  const runs = new Map<SequenceId, Buffer>();
  return {
    append: async (sequence, bytes) => {
      const before = runs.get(sequence) ?? Buffer.alloc(0);
      runs.set(sequence, Buffer.concat([before, bytes]));
      await host.pause(WRITE_MS);
      return before.length;
    },
    read: async (sequence, { offset, length }) => {
      await host.pause(READ_MS);
      const run = runs.get(sequence);
      if (run === undefined) throw new FallowError("not-found", `nothing of ${sequence} lies on the disk`);
      assert(offset + length <= run.length, `${length} bytes from ${offset} on are of ${run.length} that were written`);
      return run.subarray(offset, offset + length);
    },
    drop: async (sequence) => {
      runs.delete(sequence);
    },
    close: async () => runs.clear(),
  };
}
