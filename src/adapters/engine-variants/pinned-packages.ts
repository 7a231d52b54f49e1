/**
 * The engine packages that may be installed on demand, each with the digest that npm holds the download against: what a registry
 * or somebody in between serves instead is refused. The digests are the registry's own metadata of release 3.22.1, as
 * `npm view @node-llama-cpp/NAME@3.22.1 dist.integrity` prints it; the sizes are of those very archives.
 *
 * Not in the table, because their metadata could not be had where it was made: the packages for Windows and macOS. There is no GPU
 * package for Linux on arm64.
 */
import type { EngineVariant } from "../../domain/hardware.ts";

/** Struct layouts hold for one exact release (`llama-library.ts`). */
export const ENGINE_PACKAGE_VERSION = "3.22.1";

export interface PinnedPackage {
  readonly variant: EngineVariant;
  readonly platform: string;
  readonly arch: string;
  /** Below the scope `@node-llama-cpp/`. */
  readonly name: string;
  readonly version: string;
  /** SHA-512 of the archive, as a lockfile writes it. */
  readonly integrity: string;
  readonly downloadBytes: number;
  readonly unpackedBytes: number;
}

export const PINNED_PACKAGES: readonly PinnedPackage[] = [
  {
    variant: "cuda",
    platform: "linux",
    arch: "x64",
    name: "linux-x64-cuda",
    version: ENGINE_PACKAGE_VERSION,
    integrity: "sha512-8rQCjyNNLZJUFit+YpjwlC4hwkKgOMIkB2wuycKBf8NU2O3ySKbiWZQ8aw9ku2nUTXjSnUIrE6KB88itduTBuA==",
    downloadBytes: 142_898_030,
    unpackedBytes: 189_352_027,
  },
  {
    variant: "vulkan",
    platform: "linux",
    arch: "x64",
    name: "linux-x64-vulkan",
    version: ENGINE_PACKAGE_VERSION,
    integrity: "sha512-bBxqU+JOcBu1nb5Qj2zcMci+JByT1E8EajHvYodyNfVIPkEhXh+/HMwR1/BT7xP08YK0hks+kM8fglER0P8JEg==",
    downloadBytes: 24_311_427,
    unpackedBytes: 73_750_139,
  },
];

/** Those for one kind of machine, by its name in Node. */
export function pinnedPackagesFor(machine: { platform: string; arch: string }): readonly PinnedPackage[] {
  return PINNED_PACKAGES.filter(({ platform, arch }) => platform === machine.platform && arch === machine.arch);
}
