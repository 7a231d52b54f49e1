/** A node's cache of weights without bytes: what is fetched takes its time, stays over a restart, and may fail. */
import { FallowError } from "../../domain/fault.ts";
import type { Sha256Hex } from "../../domain/ids.ts";
import type { WeightsCache, WeightsWant } from "../../ports/weights-cache.ts";
import type { Host } from "../time/host.ts";

export type WeightsFault = "weights-digest-mismatch" | "weights-unreachable" | "disk-full";

/** What lies on a node's disk; survives its process. */
export class SimDisk {
  readonly files = new Set<Sha256Hex>();
}

export interface SimWeightsOptions {
  readonly host: Host;
  readonly disk: SimDisk;
  readonly bytesPerMs: number;
  /** Asked once per fetch. */
  readonly fault: () => WeightsFault | null;
}

export function simWeights(options: SimWeightsOptions): WeightsCache {
  const { host, disk } = options;
  return {
    has: (weightsSha256) => Promise.resolve(disk.files.has(weightsSha256)),
    ensure: (want, { signal, onProgress }) => {
      if (disk.files.has(want.weightsSha256)) return Promise.resolve(pathOf(want));
      return new Promise((resolve, reject) => {
        const fault = options.fault();
        const wholeMs = want.fileBytes / options.bytesPerMs;
        const half = host.after(wholeMs / 2, () => onProgress(Math.floor(want.fileBytes / 2)));
        const done = host.after(wholeMs, () => {
          signal.removeEventListener("abort", abort);
          if (fault !== null) return reject(new FallowError(fault, `fetching ${want.weightsSha256}: ${fault}`));
          disk.files.add(want.weightsSha256);
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
