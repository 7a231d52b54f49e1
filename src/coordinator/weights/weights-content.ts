/**
 * The weights of this grid as the rest of this folder reads them: manifest, digests and where the files lie. What was read is kept for as
 * long as there is room for it, because every node that joins a download asks for the same.
 */
import { FallowError } from "../../domain/fault.ts";
import { toHex } from "../../domain/hex.ts";
import type { Sha256Hex } from "../../domain/ids.ts";
import { chunksOfFile, type WeightsManifest } from "../../domain/weights.ts";
import type { Crypto, KeyPair } from "../../ports/crypto.ts";
import type { ModelFiles } from "../../ports/model-files.ts";
import { parseSignedManifest } from "../../wire/weights-manifest.ts";

export interface WeightsContent {
  readonly manifest: WeightsManifest;
  /** The signed manifest's JSON as nodes get it. */
  readonly signedManifest: Uint8Array;
  /** 32 bytes for each chunk. */
  readonly digests: Uint8Array;
  /** In the order of `manifest.files`. */
  readonly filePaths: readonly string[];
}

export interface WeightsContents {
  /** Null when this grid has no such weights, or their manifest is not made yet. */
  content(weightsSha256: Sha256Hex): Promise<WeightsContent | null>;
}

/** What the home keeps beside a model's files, with its manifest read. Rejects `model-file-unreadable` as the files do, `manifest-broken`. */
export function contentsOf(
  files: Pick<ModelFiles, "content">,
  keys: { readonly crypto: Crypto; readonly gridKey: KeyPair },
): WeightsContents {
  const gridPublicKeyHex = toHex(keys.gridKey.publicKey);
  const verify = (claim: Parameters<Crypto["verify"]>[0]) => keys.crypto.verify(claim);
  const sha256 = (data: Uint8Array) => keys.crypto.sha256(data);
  return {
    content: async (weightsSha256) => {
      const kept = await files.content(weightsSha256);
      if (kept === null) return null;
      const { signedManifest, digests, files: filePaths } = kept;
      const parsed = parseSignedManifest(signedManifest, { gridPublicKeyHex, verify, sha256, weightsSha256 });
      if (!parsed.ok) {
        const message = `the kept manifest of ${weightsSha256} cannot be used: ${parsed.reason.code}: ${parsed.reason.message}`;
        throw new FallowError("manifest-broken", message, { data: { weightsSha256, code: parsed.reason.code } });
      }
      return { manifest: parsed.value, signedManifest, digests, filePaths };
    },
  };
}

/** Digests of what is kept: those of a model of 400 GB are 3 MB. */
const KEPT_BYTES_MAX = 64 * 1024 * 1024;

/** Keeps what was read last; a model that is not there is asked for again each time. */
export class KeptContents implements WeightsContents {
  readonly #source: WeightsContents;
  readonly #kept = new Map<Sha256Hex, Promise<WeightsContent | null>>();
  readonly #bytes = new Map<Sha256Hex, number>();

  constructor(source: WeightsContents) {
    this.#source = source;
  }

  content(weightsSha256: Sha256Hex): Promise<WeightsContent | null> {
    const kept = this.#kept.get(weightsSha256);
    if (kept !== undefined) return kept;
    const reading = this.#read(weightsSha256);
    this.#kept.set(weightsSha256, reading);
    return reading;
  }

  /** Models were added or removed. */
  forget(isServed: (weightsSha256: Sha256Hex) => boolean): void {
    for (const weightsSha256 of this.#kept.keys()) if (!isServed(weightsSha256)) this.#drop(weightsSha256);
  }

  async #read(weightsSha256: Sha256Hex): Promise<WeightsContent | null> {
    let content: WeightsContent | null = null;
    try {
      content = await this.#source.content(weightsSha256);
    } finally {
      if (content === null) this.#drop(weightsSha256);
      else this.#bytes.set(weightsSha256, content.digests.length + content.signedManifest.length);
    }
    let total = [...this.#bytes.values()].reduce((sum, bytes) => sum + bytes, 0);
    for (const [oldest, bytes] of this.#bytes) {
      if (total <= KEPT_BYTES_MAX || oldest === weightsSha256) break;
      total -= bytes;
      this.#drop(oldest);
    }
    return content;
  }

  #drop(weightsSha256: Sha256Hex): void {
    this.#kept.delete(weightsSha256);
    this.#bytes.delete(weightsSha256);
  }
}

/** The chunks that bytes [from, to) of a file touch: first, and how many. */
export function chunksOfRange(
  { files, chunkBytes }: Pick<WeightsManifest, "files" | "chunkBytes">,
  range: { readonly file: number; readonly from: number; readonly to: number },
): readonly [first: number, count: number] {
  const before = files.slice(0, range.file).reduce((sum, file) => sum + chunksOfFile(file.fileBytes, chunkBytes), 0);
  const first = Math.floor(range.from / chunkBytes);
  const last = Math.floor(Math.max(range.from, range.to - 1) / chunkBytes);
  return [before + first, last - first + 1];
}

/**
 * Anybody may download it from where it came from: a node that says that it runs it is believed (`order-book.ts`). What an operator
 * gave as a file or an address, or fetched with a token, is private.
 */
export function isPublic({ source }: Pick<WeightsManifest, "source">): boolean {
  return source.kind === "hf" && !source.isPrivate;
}
