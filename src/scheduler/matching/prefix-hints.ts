/**
 * Remembers which replica decoded the head of a prompt, so that the next turn of a conversation meets its KV cache. A prompt
 * is hashed at every `BLOCK_TOKENS` tokens, each hash over all tokens before it; the longest block that was seen wins. A hint
 * is only a preference: forgetting one, or a collision of hashes, costs a prefill and nothing else.
 */
import type { ModelId, ReplicaId } from "../../domain/ids.ts";

export const BLOCK_TOKENS = 32;
/** Longer heads are not hashed: 64 blocks tell conversations apart. */
export const BLOCKS_MAX = 64;
/** About a megabyte. */
export const HINTS_MAX = 16_384;

export interface PrefixHint {
  readonly replicaId: ReplicaId;
  /** Share of this prompt that was decoded there, 0 to 1. */
  readonly promptShare: number;
}

export class PrefixHints {
  /** Least recently used first. */
  readonly #replicas = new Map<string, ReplicaId>();

  find(modelId: ModelId, tokenIds: readonly number[]): PrefixHint | null {
    const keys = blockKeys(modelId, tokenIds);
    for (let at = keys.length - 1; at >= 0; at--) {
      const found = this.#replicas.get(keys[at] ?? "");
      if (found !== undefined) return { replicaId: found, promptShare: ((at + 1) * BLOCK_TOKENS) / tokenIds.length };
    }
    return null;
  }

  remember(modelId: ModelId, tokenIds: readonly number[], replicaId: ReplicaId): void {
    for (const key of blockKeys(modelId, tokenIds)) {
      this.#replicas.delete(key);
      this.#replicas.set(key, replicaId);
    }
    for (const oldest of this.#replicas.keys()) {
      if (this.#replicas.size <= HINTS_MAX) return;
      this.#replicas.delete(oldest);
    }
  }
}

/** FNV-1a over token ids, 32 bits, at each block's end. */
function blockKeys(modelId: ModelId, tokenIds: readonly number[]): readonly string[] {
  const keys: string[] = [];
  const blocks = Math.min(BLOCKS_MAX, Math.floor(tokenIds.length / BLOCK_TOKENS));
  let hash = 0x811c9dc5;
  for (let at = 0; at < blocks * BLOCK_TOKENS; at++) {
    hash = Math.imul(hash ^ (tokenIds[at] ?? 0), 0x01000193) >>> 0;
    if ((at + 1) % BLOCK_TOKENS === 0) keys.push(`${modelId} ${at + 1} ${hash}`);
  }
  return keys;
}
