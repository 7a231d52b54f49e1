/** Real digests and real Ed25519 (deterministic by RFC 8032), with key pairs that come from the seed. */
import { createHash, createHmac, createPrivateKey, createPublicKey, sign, timingSafeEqual, verify } from "node:crypto";
import { assert } from "../domain/assert.ts";
import type { Crypto, KeyPair } from "../ports/crypto.ts";
import type { Random } from "../ports/random.ts";

/** DER heads of an Ed25519 seed (PKCS 8) and public key (SPKI), RFC 8410. */
const SEED_HEAD = Buffer.from("302e020100300506032b657004220420", "hex");
const PUBLIC_HEAD = Buffer.from("302a300506032b6570032100", "hex");
const KEY_BYTES = 32;

export function simCrypto(random: Random): Crypto {
  return {
    sha256: (data) => createHash("sha256").update(data).digest(),
    hmacSha256: (key, data) => createHmac("sha256", key).update(data).digest(),
    generateKeyPair: () => keyPairFrom(random.bytes(KEY_BYTES)),
    keyPairFrom,
    verify: ({ publicKey, message, signature }) => {
      if (publicKey.length !== KEY_BYTES || signature.length !== KEY_BYTES * 2) return false;
      const key = createPublicKey({ key: Buffer.concat([PUBLIC_HEAD, publicKey]), format: "der", type: "spki" });
      return verify(null, message, key, signature);
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
