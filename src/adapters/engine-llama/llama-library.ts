/**
 * Where the prebuilt libllama lies: the files of one `@node-llama-cpp/<platform>` package, whose names carry the release.
 * They are found by pattern, and the release is held against the one whose struct layouts `llama-ffi.ts` knows.
 */
import { readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { FallowError } from "../../domain/fault.ts";
import type { EngineVariant } from "../../domain/hardware.ts";

/** The release of llama.cpp inside @node-llama-cpp 3.22.1. */
export const LLAMA_RELEASE = "0.5.0";

export interface LlamaLibraryFiles {
  readonly directory: string;
  readonly llama: string;
  readonly ggml: string;
  readonly ggmlBase: string;
  readonly variant: EngineVariant;
}

export interface LlamaLibraryQuery {
  /** A folder that holds the libraries, instead of the installed package; null for the package. */
  readonly directory: string | null;
  readonly variant: EngineVariant;
}

/** Throws `engine-library-missing`, with what was looked for and how to get it. */
export function findLlamaLibrary(query: LlamaLibraryQuery): LlamaLibraryFiles {
  const directory = query.directory ?? packageDirectory(query.variant);
  const names = listNames(directory);
  const find = (pattern: RegExp): string => {
    const name = names.find((candidate) => pattern.test(candidate));
    if (name === undefined) {
      throw new FallowError("engine-library-missing", `no file ${String(pattern)} in ${directory}`, {
        data: { directory },
      });
    }
    return join(directory, name);
  };
  // libllama.v0.5.0.so, and in GPU packages libllama.vulkan.v0.5.0.so.
  const suffix = "(\\.[a-z0-9-]+)?(\\.v[0-9.]+)?\\.(so|dylib|dll)$";
  return {
    directory,
    llama: find(new RegExp(`^(lib)?llama${suffix}`)),
    ggml: find(new RegExp(`^(lib)?ggml${suffix}`)),
    ggmlBase: find(new RegExp(`^(lib)?ggml-base${suffix}`)),
    variant: query.variant,
  };
}

/** The packages that carry a variant for this platform, e.g. `linux-x64-cuda`; the plain one is the CPU's (and Metal's). */
export function packageNameOf(variant: EngineVariant): string {
  const platform = `${process.platform === "win32" ? "win" : process.platform === "darwin" ? "mac" : process.platform}`;
  const base = `${platform}-${process.arch}`;
  // One package for macOS on Apple's processors holds both.
  if (platform === "mac" && process.arch === "arm64") return `${platform}-arm64-metal`;
  switch (variant) {
    case "cpu":
      return base;
    case "metal":
      return `${platform}-arm64-metal`;
    case "cuda":
    case "vulkan":
      return `${base}-${variant}`;
  }
}

function packageDirectory(variant: EngineVariant): string {
  const name = packageNameOf(variant);
  const wanted = `@node-llama-cpp/${name}`;
  try {
    const require = createRequire(import.meta.url);
    const manifest = join(dirname(require.resolve(`${wanted}`)), "..", "package.json");
    return join(dirname(manifest), "bins", name);
  } catch (cause) {
    throw new FallowError("engine-library-missing", `the package ${wanted} is not installed: npm install ${wanted}`, {
      data: { package: wanted },
      cause,
    });
  }
}

function listNames(directory: string): readonly string[] {
  try {
    return readdirSync(directory).sort();
  } catch (cause) {
    throw new FallowError("engine-library-missing", `the engine's folder ${directory} cannot be read`, {
      data: { directory },
      cause,
    });
  }
}
