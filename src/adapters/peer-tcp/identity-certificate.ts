/**
 * A certificate whose key is the node's own Ed25519 key, signed by itself: the TLS handshake proves that the other end holds the key, and
 * nothing else in the certificate is looked at. It is written here byte by byte (X.509 in DER, RFC 5280 and 8410), since it has no choices.
 */
import { createPrivateKey, type KeyObject, type X509Certificate } from "node:crypto";
import type { KeyPair } from "../../ports/crypto.ts";

export interface IdentityCertificate {
  readonly certificatePem: string;
  readonly privateKeyPem: string;
}

const SEQUENCE = 0x30;
const SET = 0x31;
const INTEGER = 0x02;
const BIT_STRING = 0x03;
const OBJECT_ID = 0x06;
const UTF8_STRING = 0x0c;
const UTC_TIME = 0x17;
const VERSION_TAG = 0xa0;

/** 1.3.101.112 and 2.5.4.3. */
const ED25519 = der(SEQUENCE, der(OBJECT_ID, Buffer.from("2b6570", "hex")));
const COMMON_NAME = der(OBJECT_ID, Buffer.from("550403", "hex"));
/** RFC 8410: everything before the 32 bytes of a private key (PKCS 8) and of a public key (SPKI). */
const PRIVATE_DER_PREFIX = Buffer.from("302e020100300506032b657004220420", "hex");
const PUBLIC_DER_PREFIX = Buffer.from("302a300506032b6570032100", "hex");
const KEY_BYTES = 32;
/** The widest span that two-digit years hold; the pin is the key, and a wrong clock must not keep nodes apart. */
const NOT_BEFORE = "500101000000Z";
const NOT_AFTER = "491231235959Z";

export function identityCertificate(keyPair: KeyPair): IdentityCertificate {
  const name = der(SEQUENCE, der(SET, der(SEQUENCE, COMMON_NAME, der(UTF8_STRING, Buffer.from("fallow node")))));
  const signed = der(
    SEQUENCE,
    der(VERSION_TAG, der(INTEGER, Buffer.from([2]))),
    der(INTEGER, Buffer.from([1])),
    ED25519,
    name,
    der(SEQUENCE, der(UTC_TIME, Buffer.from(NOT_BEFORE)), der(UTC_TIME, Buffer.from(NOT_AFTER))),
    name,
    Buffer.concat([PUBLIC_DER_PREFIX, keyPair.publicKey]),
  );
  const signature = der(BIT_STRING, Buffer.concat([Buffer.from([0]), keyPair.sign(signed)]));
  const key = createPrivateKey({
    key: Buffer.concat([PRIVATE_DER_PREFIX, keyPair.seed]),
    format: "der",
    type: "pkcs8",
  });
  return {
    certificatePem: pem(der(SEQUENCE, signed, ED25519, signature)),
    privateKeyPem: key.export({ format: "pem", type: "pkcs8" }).toString(),
  };
}

/** The Ed25519 key of a certificate as 64 hex; null when there is none or it is of another kind. */
export function certifiedKeyHex(certificate: X509Certificate | undefined): string | null {
  const key: KeyObject | undefined = certificate?.publicKey;
  if (key?.asymmetricKeyType !== "ed25519") return null;
  const spki = key.export({ format: "der", type: "spki" });
  return spki.length === PUBLIC_DER_PREFIX.length + KEY_BYTES ? spki.subarray(-KEY_BYTES).toString("hex") : null;
}

/** Tag, length, contents. */
function der(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  const body = Buffer.concat(parts);
  const length =
    body.length < 0x80
      ? [body.length]
      : body.length < 0x100
        ? [0x81, body.length]
        : [0x82, body.length >> 8, body.length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...length]), body]);
}

function pem(bytes: Buffer): string {
  const lines = bytes.toString("base64").match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join("\n")}\n-----END CERTIFICATE-----\n`;
}
