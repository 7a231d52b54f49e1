/** The Crypto port on node:crypto. Ed25519 keys cross the port raw; node:crypto wants them wrapped in DER. */
import {
  createHmac,
  createPrivateKey,
  createPublicKey,
  createSecretKey,
  generateKeyPairSync,
  hash,
  type KeyObject,
  sign,
  timingSafeEqual,
  verify,
} from "node:crypto";
import { assert } from "../../domain/assert.ts";
import type { Crypto, KeyPair } from "../../ports/crypto.ts";

/** RFC 8410: everything before the 32 bytes of a private key (PKCS 8) and of a public key (SPKI). */
const PRIVATE_DER_PREFIX = Buffer.from("302e020100300506032b657004220420", "hex");
const PUBLIC_DER_PREFIX = Buffer.from("302a300506032b6570032100", "hex");
const KEY_BYTES = 32;
const SIGNATURE_BYTES = 64;
/** Parsed public keys that are kept: as many as nodes that sign often. Parsing costs about half of a verification. */
const PUBLIC_KEYS_KEPT_MAX = 1_024;

export class NodeCrypto implements Crypto {
  readonly #publicKeys = new Map<string, KeyObject>();
  /** By the bytes that hold them, which nobody changes: making one costs as much as a short HMAC. */
  readonly #secretKeys = new WeakMap<Uint8Array, KeyObject>();

  sha256(data: Uint8Array): Uint8Array {
    return new Uint8Array(hash("sha256", data, "buffer"));
  }

  hmacSha256(key: Uint8Array, data: Uint8Array): Uint8Array {
    return new Uint8Array(createHmac("sha256", this.#secretKey(key)).update(data).digest());
  }

  generateKeyPair(): KeyPair {
    const { privateKey } = generateKeyPairSync("ed25519");
    const der = privateKey.export({ format: "der", type: "pkcs8" });
    return this.keyPairFrom(new Uint8Array(der.subarray(der.length - KEY_BYTES)));
  }

  keyPairFrom(seed: Uint8Array): KeyPair {
    assert(seed.length === KEY_BYTES, `an Ed25519 seed has ${KEY_BYTES} bytes, not ${seed.length}`);
    const der = Buffer.concat([PRIVATE_DER_PREFIX, seed]);
    const privateKey = createPrivateKey({ key: der, format: "der", type: "pkcs8" });
    const spki = createPublicKey(privateKey).export({ format: "der", type: "spki" });
    return {
      publicKey: new Uint8Array(spki.subarray(spki.length - KEY_BYTES)),
      seed: new Uint8Array(seed),
      sign: (message) => new Uint8Array(sign(null, message, privateKey)),
    };
  }

  verify(claim: { publicKey: Uint8Array; message: Uint8Array; signature: Uint8Array }): boolean {
    if (claim.publicKey.length !== KEY_BYTES || claim.signature.length !== SIGNATURE_BYTES) return false;
    return verify(null, claim.message, this.#publicKey(claim.publicKey), claim.signature);
  }

  isEqual(a: Uint8Array, b: Uint8Array): boolean {
    return a.length === b.length && timingSafeEqual(a, b);
  }

  #secretKey(raw: Uint8Array): KeyObject {
    const known = this.#secretKeys.get(raw);
    if (known !== undefined) return known;
    const key = createSecretKey(raw);
    this.#secretKeys.set(raw, key);
    return key;
  }

  #publicKey(raw: Uint8Array): KeyObject {
    const name = Buffer.from(raw).toString("base64");
    const known = this.#publicKeys.get(name);
    if (known !== undefined) return known;
    const key = createPublicKey({ key: Buffer.concat([PUBLIC_DER_PREFIX, raw]), format: "der", type: "spki" });
    if (this.#publicKeys.size >= PUBLIC_KEYS_KEPT_MAX) {
      const [oldest] = this.#publicKeys.keys();
      if (oldest !== undefined) this.#publicKeys.delete(oldest);
    }
    this.#publicKeys.set(name, key);
    return key;
  }
}
