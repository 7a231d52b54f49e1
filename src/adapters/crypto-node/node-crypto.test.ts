import { describe, expect, test } from "vitest";
import { AssertionFailed } from "../../domain/assert.ts";
import { NodeCrypto } from "./node-crypto.ts";

const crypto = new NodeCrypto();
const bytes = (hex: string) => new Uint8Array(Buffer.from(hex, "hex"));
const hex = (data: Uint8Array) => Buffer.from(data).toString("hex");

/** RFC 8032 section 7.1, tests 1 to 3. */
const VECTORS = [
  {
    seed: "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
    publicKey: "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
    message: "",
    signature:
      "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
  },
  {
    seed: "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
    publicKey: "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
    message: "72",
    signature:
      "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
  },
  {
    seed: "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
    publicKey: "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
    message: "af82",
    signature:
      "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
  },
];

describe("Ed25519", () => {
  test.each(VECTORS)("gives the keys and signatures of RFC 8032 ($message)", (vector) => {
    const pair = crypto.keyPairFrom(bytes(vector.seed));
    const message = bytes(vector.message);
    expect(hex(pair.publicKey)).toBe(vector.publicKey);
    expect(hex(pair.seed)).toBe(vector.seed);
    expect(hex(pair.sign(message))).toBe(vector.signature);
    expect(crypto.verify({ publicKey: pair.publicKey, message, signature: bytes(vector.signature) })).toBe(true);
  });

  test("a stored seed gives the same key again, and two new ones differ", () => {
    const pair = crypto.generateKeyPair();
    expect(crypto.keyPairFrom(pair.seed).publicKey).toEqual(pair.publicKey);
    expect(crypto.generateKeyPair().publicKey).not.toEqual(pair.publicKey);
  });

  test("nothing that was altered, cut or made up verifies, and nothing throws", () => {
    const pair = crypto.generateKeyPair();
    const message = new Uint8Array([1, 2, 3]);
    const signature = pair.sign(message);
    const other = crypto.generateKeyPair().publicKey;
    const claims = [
      { publicKey: pair.publicKey, message: new Uint8Array([1, 2, 4]), signature },
      { publicKey: other, message, signature },
      { publicKey: pair.publicKey, message, signature: signature.slice(1) },
      { publicKey: pair.publicKey, message, signature: new Uint8Array(64) },
      { publicKey: pair.publicKey.slice(1), message, signature },
      { publicKey: new Uint8Array(32).fill(255), message, signature },
      { publicKey: new Uint8Array(0), message, signature: new Uint8Array(0) },
    ];
    expect(claims.map((claim) => crypto.verify(claim))).toEqual(claims.map(() => false));
  });

  test("goes on verifying when more keys came by than are kept", () => {
    const first = crypto.generateKeyPair();
    const message = new Uint8Array([7]);
    for (let seed = 0; seed < 1_100; seed++) {
      const filled = new Uint8Array(32);
      new DataView(filled.buffer).setUint32(0, seed);
      crypto.verify({ publicKey: crypto.keyPairFrom(filled).publicKey, message, signature: new Uint8Array(64) });
    }
    expect(crypto.verify({ publicKey: first.publicKey, message, signature: first.sign(message) })).toBe(true);
  });

  test("a seed of another length is a bug", () => {
    expect(() => crypto.keyPairFrom(new Uint8Array(31))).toThrow(AssertionFailed);
  });
});

describe("hashes", () => {
  test("are those of FIPS 180 and RFC 4231", () => {
    expect(hex(crypto.sha256(new TextEncoder().encode("abc")))).toBe(
      "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    );
    const mac = crypto.hmacSha256(
      new TextEncoder().encode("Jefe"),
      new TextEncoder().encode("what do ya want for nothing?"),
    );
    expect(hex(mac)).toBe("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  });

  test("are equal only to the same bytes of the same length", () => {
    expect(crypto.isEqual(new Uint8Array([1, 2]), new Uint8Array([1, 2]))).toBe(true);
    expect(crypto.isEqual(new Uint8Array([1, 2]), new Uint8Array([1, 3]))).toBe(false);
    expect(crypto.isEqual(new Uint8Array([1, 2]), new Uint8Array([1, 2, 3]))).toBe(false);
    expect(crypto.isEqual(new Uint8Array(0), new Uint8Array(0))).toBe(true);
  });
});
