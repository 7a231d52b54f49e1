/** A node's cache of weights without bytes: what is fetched takes its time, stays over a restart, and may fail. */
import { FallowError } from "../../domain/fault.ts";
import type { Sha256Hex } from "../../domain/ids.ts";
import type { WeightsCache, WeightsWant } from "../../ports/weights-cache.ts";
import type { Host } from "../time/host.ts";

export type WeightsFault = "weights-digest-mismatch" | "weights-unreachable" | "disk-full";

/** What lies on a node's disk, with its size; the one used longest ago first. Survives its process. */
export class SimDisk {
  readonly files = new Map<Sha256Hex, number>();
}

export interface SimWeightsOptions {
  readonly host: Host;
  readonly disk: SimDisk;
  readonly bytesPerMs: number;
  /** Without it the disk is never full. */
  readonly diskBytes?: number;
  /** Asked once per fetch. */
  readonly fault: () => WeightsFault | null;
}

export function simWeights(options: SimWeightsOptions): WeightsCache {
  const { host, disk, diskBytes = null } = options;
  const freeBytes = () => (diskBytes === null ? null : diskBytes - [...disk.files.values()].reduce((a, b) => a + b, 0));
  const use = ({ weightsSha256, fileBytes }: WeightsWant) => {
    disk.files.delete(weightsSha256);
    disk.files.set(weightsSha256, fileBytes);
  };
  return {
    has: (weightsSha256) => Promise.resolve(disk.files.has(weightsSha256)),
    list: () => Promise.resolve([...disk.files].map(([weightsSha256, fileBytes]) => ({ weightsSha256, fileBytes }))),
    // What is fetched here comes whole or not at all.
    listPartial: () => Promise.resolve([]),
    remove: (weightsSha256) => {
      disk.files.delete(weightsSha256);
      return Promise.resolve();
    },
    freeBytes: () => Promise.resolve(freeBytes()),
    ensure: (want, { signal, onProgress }) => {
      if (disk.files.has(want.weightsSha256)) {
        use(want);
        return Promise.resolve(pathOf(want));
      }
      if ((freeBytes() ?? want.fileBytes) < want.fileBytes) {
        return Promise.reject(new FallowError("disk-full", `${want.fileBytes} bytes do not fit on the disk`));
      }
      return new Promise((resolve, reject) => {
        const fault = options.fault();
        const wholeMs = want.fileBytes / options.bytesPerMs;
        const half = host.after(wholeMs / 2, () => onProgress(Math.floor(want.fileBytes / 2)));
        const done = host.after(wholeMs, () => {
          signal.removeEventListener("abort", abort);
          if (fault !== null) return reject(new FallowError(fault, `fetching ${want.weightsSha256}: ${fault}`));
          // Another file may have filled the disk since this one began.
          if ((freeBytes() ?? want.fileBytes) < want.fileBytes) {
            return reject(new FallowError("disk-full", `the disk was full before all ${want.fileBytes} bytes came`));
          }
          use(want);
          onProgress(want.fileBytes);
          resolve(pathOf(want));
        });
        const abort = () => {
          half.cancel();
          done.cancel();
          reject(new FallowError("weights-unreachable", `fetching ${want.weightsSha256} was given up`));
        };
        if (signal.aborted) abort();
        else signal.addEventListener("abort", abort, { once: true });
      });
    },
  };
}

function pathOf(want: WeightsWant): string {
  return `/sim/weights/${want.weightsSha256}.gguf`;
}
