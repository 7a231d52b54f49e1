/** Hashes and Ed25519 signatures, synchronous: they are on the hot path. Keys and signatures are raw bytes (32, 32 and 64). */
export interface Crypto {
  sha256(data: Uint8Array): Uint8Array;
  hmacSha256(key: Uint8Array, data: Uint8Array): Uint8Array;
  generateKeyPair(): KeyPair;
  /** The key pair of a stored 32-byte seed. */
  keyPairFrom(seed: Uint8Array): KeyPair;
  verify(claim: { publicKey: Uint8Array; message: Uint8Array; signature: Uint8Array }): boolean;
  /** Constant-time comparison; false when the lengths differ. */
  isEqual(a: Uint8Array, b: Uint8Array): boolean;
}

export interface KeyPair {
  readonly publicKey: Uint8Array;
  /** The 32-byte Ed25519 seed: what is stored and exported. */
  readonly seed: Uint8Array;
  sign(message: Uint8Array): Uint8Array;
}
