/** Real digests and real Ed25519 (deterministic by RFC 8032), with key pairs that come from the seed. */
import {
  createHash,
  createHmac,
  createPrivateKey,
  createPublicKey,
  type KeyObject,
  sign,
  timingSafeEqual,
  verify,
} from "node:crypto";
import { assert } from "../domain/assert.ts";
import type { Crypto, KeyPair } from "../ports/crypto.ts";
import type { Random } from "../ports/random.ts";

/** DER heads of an Ed25519 seed (PKCS 8) and public key (SPKI), RFC 8410. */
const SEED_HEAD = Buffer.from("302e020100300506032b657004220420", "hex");
const PUBLIC_HEAD = Buffer.from("302a300506032b6570032100", "hex");
const KEY_BYTES = 32;
/** Parsed public keys that are kept: more than the nodes of any drawn grid. Parsing costs about half of a verification. */
const PUBLIC_KEYS_KEPT_MAX = 256;

export function simCrypto(random: Random): Crypto {
  const publicKeys = new Map<string, KeyObject>();
  const publicKeyFrom = (raw: Uint8Array): KeyObject => {
    const name = Buffer.from(raw).toString("latin1");
    const known = publicKeys.get(name);
    if (known !== undefined) return known;
    const key = createPublicKey({ key: Buffer.concat([PUBLIC_HEAD, raw]), format: "der", type: "spki" });
    if (publicKeys.size < PUBLIC_KEYS_KEPT_MAX) publicKeys.set(name, key);
    return key;
  };
  return {
    sha256: (data) => createHash("sha256").update(data).digest(),
    hmacSha256: (key, data) => createHmac("sha256", key).update(data).digest(),
    generateKeyPair: () => keyPairFrom(random.bytes(KEY_BYTES)),
    keyPairFrom,
    verify: ({ publicKey, message, signature }) => {
      if (publicKey.length !== KEY_BYTES || signature.length !== KEY_BYTES * 2) return false;
      return verify(null, message, publicKeyFrom(publicKey), signature);
    },
    isEqual: (a, b) => a.length === b.length && timingSafeEqual(a, b),
  };
}

function keyPairFrom(seed: Uint8Array): KeyPair {
  assert(seed.length === KEY_BYTES, `an Ed25519 seed of ${seed.length} bytes has ${KEY_BYTES}`);
  const key = createPrivateKey({ key: Buffer.concat([SEED_HEAD, seed]), format: "der", type: "pkcs8" });
  const spki = createPublicKey(key).export({ format: "der", type: "spki" });
  return {
    publicKey: new Uint8Array(spki.subarray(PUBLIC_HEAD.length)),
    seed: new Uint8Array(seed),
    sign: (message) => sign(null, message, key),
  };
}
