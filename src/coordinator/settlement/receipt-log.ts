/**
 * The Merkle log over the store's leaves. The store says what the log holds; this keeps the hashes that proofs are made of
 * and reads on from where it stopped, so it needs no word of who settled what and cannot fall out of step.
 */

import { assert } from "../../domain/assert.ts";
import { sha256Hex } from "../../domain/ids.ts";
import type { ReceiptInclusion } from "../../domain/receipt.ts";
import { logOrigin, signCheckpoint } from "../../market/checkpoint.ts";
import { fromHex, toHex } from "../../market/hex.ts";
import { MerkleTiles } from "../../market/merkle-tiles.ts";
import type { Crypto, KeyPair } from "../../ports/crypto.ts";
import type { ReceiptStore } from "../../ports/store.ts";

/** Leaves read at a time: 64 bytes each as text. */
const LEAVES_PER_READ = 4_096;

export class ReceiptLog {
  readonly #gridId: string;
  readonly #receipts: Pick<ReceiptStore, "leaves">;
  readonly #crypto: Crypto;
  readonly #gridKey: KeyPair;
  readonly #tiles: MerkleTiles;
  #catchingUp: Promise<void> | null = null;

  constructor(
    options: { readonly gridId: string; readonly gridKey: KeyPair },
    ports: { readonly receipts: Pick<ReceiptStore, "leaves">; readonly crypto: Crypto },
  ) {
    this.#gridId = options.gridId;
    this.#gridKey = options.gridKey;
    this.#receipts = ports.receipts;
    this.#crypto = ports.crypto;
    this.#tiles = new MerkleTiles((data) => ports.crypto.sha256(data));
  }

  get size(): number {
    return this.#tiles.size;
  }

  /** Reads the leaves that were written since the last time. */
  catchUp(): Promise<void> {
    this.#catchingUp ??= this.#readOn().finally(() => {
      this.#catchingUp = null;
    });
    return this.#catchingUp;
  }

  /** The proof for a leaf that the store has, in the tree of the present size. */
  async inclusion(leafIndex: number): Promise<ReceiptInclusion> {
    // A read under way may have begun before this leaf was written; the next one has not.
    while (this.#tiles.size <= leafIndex) await this.catchUp();
    const range = this.#tiles.tileOf(leafIndex);
    const tile = range === null ? null : (await this.#receipts.leaves(range)).map(leafBytes);
    const path = this.#tiles.inclusion(leafIndex, tile);
    return {
      leafIndex,
      treeSize: this.#tiles.size,
      path: path.map(toHex),
      rootHash: sha256Hex(toHex(this.#tiles.root())),
      checkpoint: this.checkpoint(),
    };
  }

  /** The signed head of the tree as it is known here. */
  checkpoint(): string {
    const head = { origin: logOrigin(this.#gridId), size: this.#tiles.size, root: this.#tiles.root() };
    return signCheckpoint(head, this.#gridKey, (data) => this.#crypto.sha256(data));
  }

  async #readOn(): Promise<void> {
    for (;;) {
      const from = this.#tiles.size;
      const leaves = await this.#receipts.leaves({ from, to: from + LEAVES_PER_READ });
      for (const leaf of leaves) this.#tiles.append(leafBytes(leaf));
      if (leaves.length < LEAVES_PER_READ) return;
    }
  }
}

function leafBytes(hex: string): Uint8Array {
  const bytes = fromHex(hex);
  assert(bytes !== null, `the leaf ${hex} is hex`);
  return bytes;
}
