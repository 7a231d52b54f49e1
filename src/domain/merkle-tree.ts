/**
 * Hashing of a Merkle tree as RFC 6962 section 2.1 (RFC 9162 section 2.1) has it: leaves with prefix 0x00, inner nodes with 0x01, split at
 * the largest power of two below the count. The receipts' log and the chunks of weights use the same tree.
 */
export type Sha256 = (data: Uint8Array) => Uint8Array;

export const HASH_BYTES = 32;

export function leafHash(entry: Uint8Array, sha256: Sha256): Uint8Array {
  const input = new Uint8Array(entry.length + 1);
  input.set(entry, 1);
  return sha256(input);
}

export function nodeHash(left: Uint8Array, right: Uint8Array, sha256: Sha256): Uint8Array {
  const input = new Uint8Array(1 + 2 * HASH_BYTES);
  input[0] = 1;
  input.set(left, 1);
  input.set(right, 1 + HASH_BYTES);
  return sha256(input);
}

/** MTH of all entries, in one pass with at most one hash for each level; of none, the hash of nothing. */
export function treeRoot(entries: Iterable<Uint8Array>, sha256: Sha256): Uint8Array {
  // Roots of perfect subtrees, the widest first: their widths are the powers of two of the count.
  const perfect: Uint8Array[] = [];
  let count = 0;
  for (const entry of entries) {
    let hash = leafHash(entry, sha256);
    for (let width = count; width % 2 === 1; width = (width - 1) / 2)
      hash = nodeHash(perfect.pop() ?? hash, hash, sha256);
    perfect.push(hash);
    count++;
  }
  let root = perfect.pop();
  if (root === undefined) return sha256(new Uint8Array(0));
  for (let left = perfect.pop(); left !== undefined; left = perfect.pop()) root = nodeHash(left, root, sha256);
  return root;
}
