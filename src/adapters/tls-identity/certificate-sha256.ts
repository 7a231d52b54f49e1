import { createHash, type X509Certificate } from "node:crypto";

/** SHA-256 of the certificate's DER form as 64 hex; null when there is none. What `openssl x509 -fingerprint -sha256` shows. */
export function certificateSha256(certificate: X509Certificate | undefined): string | null {
  return certificate === undefined ? null : createHash("sha256").update(certificate.raw).digest("hex");
}
