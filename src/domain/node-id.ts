import { assert } from "./assert.ts";
import { type NodeId, nodeId } from "./ids.ts";

const DIGEST_BYTES = 32;
const ID_BYTES = 16;

/** A node is its key: the id is the first half of the SHA-256 of its Ed25519 public key, so nobody can choose another's. */
export function nodeIdOf(publicKeySha256: Uint8Array): NodeId {
  assert(
    publicKeySha256.length === DIGEST_BYTES,
    `a SHA-256 digest has ${DIGEST_BYTES} bytes, not ${publicKeySha256.length}`,
  );
  let hex = "";
  for (const byte of publicKeySha256.subarray(0, ID_BYTES)) hex += byte.toString(16).padStart(2, "0");
  return nodeId(`node_${hex}`);
}
