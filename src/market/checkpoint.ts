/**
 * The log's signed tree head as a C2SP tlog-checkpoint (https://c2sp.org/tlog-checkpoint) in a signed note
 * (https://c2sp.org/signed-note): three lines of text (origin, size, root), an empty line, and one line for each signature:
 * an em dash, the key's name, and base64 of 4 bytes of key hash followed by the Ed25519 signature over the text.
 */
import type { Sha256 } from "../domain/merkle-tree.ts";
import { fromBase64, toBase64 } from "./hex.ts";

export interface SignatureCheck {
  verify(claim: { publicKey: Uint8Array; message: Uint8Array; signature: Uint8Array }): boolean;
}

export interface TreeHead {
  readonly origin: string;
  readonly size: number;
  readonly root: Uint8Array;
}

const KEY_HASH_BYTES = 4;
const ED25519 = 0x01;
/** A note has our signature and those of a few witnesses; more is not read. */
const SIGNATURES_MAX = 16;

/** Name of the grid's log and of the key that signs it. */
export function logOrigin(gridId: string): string {
  return `fallow/${gridId}`;
}

export function signCheckpoint(
  head: TreeHead,
  signer: { readonly publicKey: Uint8Array; sign(message: Uint8Array): Uint8Array },
  sha256: Sha256,
): string {
  const text = `${head.origin}\n${head.size}\n${toBase64(head.root)}\n`;
  const signature = signer.sign(new TextEncoder().encode(text));
  const stamped = new Uint8Array(KEY_HASH_BYTES + signature.length);
  stamped.set(keyHash(head.origin, signer.publicKey, sha256));
  stamped.set(signature, KEY_HASH_BYTES);
  return `${text}\n\u2014 ${head.origin} ${toBase64(stamped)}\n`;
}

/** The tree head when the note is well formed and the key signed it under its origin's name; null otherwise. */
export function openCheckpoint(
  note: string,
  publicKey: Uint8Array,
  crypto: SignatureCheck & { sha256: Sha256 },
): TreeHead | null {
  const end = note.indexOf("\n\n");
  if (end < 0) return null;
  const text = note.slice(0, end + 1);
  const [origin, size, root, ...rest] = text.split("\n");
  if (origin === undefined || size === undefined || root === undefined || rest.join("") !== "") return null;
  if (!/^(0|[1-9][0-9]{0,15})$/.test(size)) return null;
  const rootBytes = fromBase64(root);
  if (rootBytes === null || rootBytes.length !== 32) return null;
  const hash = keyHash(origin, publicKey, (data) => crypto.sha256(data));
  const message = new TextEncoder().encode(text);
  for (const line of note.slice(end + 2).split("\n", SIGNATURES_MAX)) {
    if (!line.startsWith(`\u2014 ${origin} `)) continue;
    const stamped = fromBase64(line.slice(origin.length + 3));
    if (stamped === null || hash.some((byte, at) => byte !== stamped[at])) continue;
    if (crypto.verify({ publicKey, message, signature: stamped.slice(KEY_HASH_BYTES) })) {
      return { origin, size: Number(size), root: rootBytes };
    }
  }
  return null;
}

function keyHash(name: string, publicKey: Uint8Array, sha256: Sha256): Uint8Array {
  const label = new TextEncoder().encode(`${name}\n`);
  const input = new Uint8Array(label.length + 1 + publicKey.length);
  input.set(label);
  input[label.length] = ED25519;
  input.set(publicKey, label.length + 1);
  return sha256(input).slice(0, KEY_HASH_BYTES);
}
