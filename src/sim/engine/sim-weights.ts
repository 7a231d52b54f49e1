/**
 * A node's cache of weights without bytes: what is fetched takes its time, stays over a restart, and may fail. Of a model that is split a node has
 * the layers that it asked for; what of them lies on the disk is not fetched again.
 */
import { FallowError } from "../../domain/fault.ts";
import type { Sha256Hex } from "../../domain/ids.ts";
import type { WeightsCache, WeightsWant } from "../../ports/weights-cache.ts";
import type { Host } from "../time/host.ts";

export type WeightsFault = "weights-digest-mismatch" | "weights-unreachable" | "disk-full";

/** Some layers of a model on a disk. */
export interface StoredLayers {
  readonly layers: Set<number>;
  readonly layerBytes: number;
  readonly totalBytes: number;
}

/** What lies on a node's disk, with its size; the one used longest ago first. Survives its process. */
export class SimDisk {
  readonly files = new Map<Sha256Hex, number>();
  /** Models that are here in part. */
  readonly parts = new Map<Sha256Hex, StoredLayers>();

  usedBytes(): number {
    let bytes = 0;
    for (const fileBytes of this.files.values()) bytes += fileBytes;
    for (const { layers, layerBytes } of this.parts.values()) bytes += layers.size * layerBytes;
    return bytes;
  }

  clear(): void {
    this.files.clear();
    this.parts.clear();
  }
}

export interface SimWeightsOptions {
  readonly host: Host;
  readonly disk: SimDisk;
  readonly bytesPerMs: number;
  /** Without it the disk is never full. */
  readonly diskBytes?: number;
  /** Of a model, which may be asked for in parts; one where it is not told. */
  readonly layerCount?: (weightsSha256: Sha256Hex) => number;
  /** Asked once per fetch. */
  readonly fault: () => WeightsFault | null;
  /** Layers of a model that came. */
  readonly onFetched?: (fetched: { weightsSha256: Sha256Hex; layers: readonly number[]; bytes: number }) => void;
}

export function simWeights(options: SimWeightsOptions): WeightsCache {
  const { disk, diskBytes = null } = options;
  const freeBytes = () => (diskBytes === null ? null : diskBytes - disk.usedBytes());
  return {
    has: (weightsSha256) => Promise.resolve(disk.files.has(weightsSha256)),
    list: () => Promise.resolve([...disk.files].map(([weightsSha256, fileBytes]) => ({ weightsSha256, fileBytes }))),
    // A fetch comes whole or not at all.
    listPartial: () =>
      Promise.resolve(
        [...disk.parts].map(([weightsSha256, { layers, layerBytes, totalBytes }]) => ({
          weightsSha256,
          fileBytes: layers.size * layerBytes,
          totalBytes,
        })),
      ),
    remove: (weightsSha256) => {
      disk.files.delete(weightsSha256);
      disk.parts.delete(weightsSha256);
      return Promise.resolve();
    },
    freeBytes: () => Promise.resolve(freeBytes()),
    bytesOf: (want) => Promise.resolve(pieceOf(options, want).wantedBytes),
    ensure: (want, { signal, onProgress }) => fetched(options, want, { signal, onProgress, freeBytes }),
  };
}

interface Piece {
  /** Of the whole share, here or not. */
  readonly wantedBytes: number;
  readonly missingBytes: number;
  /** Puts it on the disk: how many of which layers came. */
  keep(disk: SimDisk): readonly number[];
}

function pieceOf({ disk, layerCount }: SimWeightsOptions, want: WeightsWant): Piece {
  const { weightsSha256, fileBytes } = want;
  const share = want.layers ?? null;
  const count = layerCount?.(weightsSha256) ?? 1;
  const all = Array.from({ length: share?.count ?? count }, (_, at) => (share?.first ?? 0) + at);
  if (disk.files.has(weightsSha256)) {
    const keep = () => {
      disk.files.delete(weightsSha256);
      disk.files.set(weightsSha256, fileBytes);
      return [];
    };
    return { wantedBytes: fileBytes, missingBytes: 0, keep };
  }
  if (share === null) {
    const keep = () => {
      disk.parts.delete(weightsSha256);
      disk.files.set(weightsSha256, fileBytes);
      return all;
    };
    return { wantedBytes: fileBytes, missingBytes: fileBytes, keep };
  }
  const layerBytes = Math.ceil(fileBytes / count);
  const missing = () => all.filter((layer) => !disk.parts.get(weightsSha256)?.layers.has(layer));
  const keep = () => {
    const came = missing();
    const stored = disk.parts.get(weightsSha256) ?? { layers: new Set(), layerBytes, totalBytes: fileBytes };
    for (const layer of came) stored.layers.add(layer);
    disk.parts.delete(weightsSha256);
    disk.parts.set(weightsSha256, stored);
    return came;
  };
  return { wantedBytes: all.length * layerBytes, missingBytes: missing().length * layerBytes, keep };
}

function fetched(
  options: SimWeightsOptions,
  want: WeightsWant,
  by: { signal: AbortSignal; onProgress: (doneBytes: number) => void; freeBytes: () => number | null },
): Promise<string> {
  const { host, disk, bytesPerMs } = options;
  const { signal, onProgress, freeBytes } = by;
  const piece = pieceOf(options, want);
  const { missingBytes } = piece;
  if (missingBytes === 0) {
    piece.keep(disk);
    return Promise.resolve(pathOf(want));
  }
  if ((freeBytes() ?? missingBytes) < missingBytes) {
    return Promise.reject(new FallowError("disk-full", `${missingBytes} bytes do not fit on the disk`));
  }
  return new Promise((resolve, reject) => {
    const fault = options.fault();
    const wholeMs = missingBytes / bytesPerMs;
    const half = host.after(wholeMs / 2, () => onProgress(Math.floor(missingBytes / 2)));
    const done = host.after(wholeMs, () => {
      signal.removeEventListener("abort", abort);
      if (fault !== null) return reject(new FallowError(fault, `fetching ${want.weightsSha256}: ${fault}`));
      // Another file may have filled the disk since this one began.
      if ((freeBytes() ?? missingBytes) < missingBytes) {
        return reject(new FallowError("disk-full", `the disk was full before all ${missingBytes} bytes came`));
      }
      const layers = piece.keep(disk);
      options.onFetched?.({ weightsSha256: want.weightsSha256, layers, bytes: missingBytes });
      onProgress(missingBytes);
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
}

function pathOf({ weightsSha256, layers }: WeightsWant): string {
  const share = layers == null ? "" : `.${layers.first}-${layers.count}`;
  return `/sim/weights/${weightsSha256}${share}.gguf`;
}
