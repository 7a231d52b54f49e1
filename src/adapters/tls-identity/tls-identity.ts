/**
 * The coordinator's certificate. It is made once, kept in the home, and known to agents by its SHA-256, so it carries no
 * authority and does not expire in practice: a new certificate means a new fingerprint, and every agent would have to join
 * again. An operator with a certificate of his own names its files instead.
 */
import { createPrivateKey, randomBytes, X509Certificate } from "node:crypto";
import { mkdir, open, readFile, rename } from "node:fs/promises";
import { isIP } from "node:net";
import { hostname } from "node:os";
import { join } from "node:path";
import { generate } from "selfsigned";
import { describeFault, FallowError } from "../../domain/fault.ts";
import { certificateSha256 } from "./certificate-sha256.ts";

export interface TlsIdentity {
  readonly certificatePem: string;
  readonly privateKeyPem: string;
  /** 64 hex: what a join code carries and an agent pins. */
  readonly certificateSha256: string;
}

/** X.509 writes years below 2050 in two digits, and old readers know no other form. */
const NOT_AFTER = new Date("2049-12-31T00:00:00Z");
/** A machine whose clock is a day off still takes the certificate. */
const BACKDATED_MS = 24 * 60 * 60 * 1_000;
const FILE = "identity.pem";

/**
 * Reads the identity kept in `folder`, making it the first time; `addresses` are those under which clients reach this machine
 * then, since clients that trust the certificate also compare its names. One file holds key and certificate, so a crash leaves both
 * or none. Rejects with a `FallowError` (`tls-identity-unusable`) when the file is damaged: it is never replaced silently.
 */
export async function keptTlsIdentity(folder: string, addresses: readonly string[] = []): Promise<TlsIdentity> {
  const path = join(folder, FILE);
  const kept = await readText(path);
  if (kept !== null) return parseIdentity({ certificatePem: kept, privateKeyPem: kept, source: path, fix: RESTORE });
  const made = await makeIdentity(addresses);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const temporary = join(folder, `.${randomBytes(6).toString("hex")}.tmp`);
  const file = await open(temporary, "wx", 0o600);
  try {
    await file.writeFile(`${made.privateKeyPem.trim()}\n${made.certificatePem.trim()}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
  return made;
}

/** The operator's own certificate (a chain is fine, the server's own first) and key. Rejects: `tls-files-unusable`. */
export async function givenTlsIdentity(paths: { certificatePath: string; keyPath: string }): Promise<TlsIdentity> {
  const [certificatePem, privateKeyPem] = await Promise.all([
    readText(paths.certificatePath, NAME_BOTH),
    readText(paths.keyPath, NAME_BOTH),
  ]);
  if (certificatePem === null) throw unusable(paths.certificatePath, "there is no such file", NAME_BOTH);
  if (privateKeyPem === null) throw unusable(paths.keyPath, "there is no such file", NAME_BOTH);
  const source = `${paths.certificatePath} with ${paths.keyPath}`;
  return parseIdentity({ certificatePem, privateKeyPem, source, fix: NAME_BOTH });
}

async function makeIdentity(addresses: readonly string[]): Promise<TlsIdentity> {
  const name = hostname().slice(0, 64);
  const pems = await generate([{ name: "commonName", value: "fallow grid" }], {
    keyType: "ec",
    curve: "P-256",
    algorithm: "sha256",
    notBeforeDate: new Date(Date.now() - BACKDATED_MS),
    notAfterDate: NOT_AFTER,
    extensions: [
      { name: "basicConstraints", cA: false, critical: true },
      { name: "keyUsage", digitalSignature: true, critical: true },
      { name: "extKeyUsage", serverAuth: true },
      {
        name: "subjectAltName",
        altNames: [
          { type: 2, value: "localhost" },
          ...(name === "" ? [] : [{ type: 2 as const, value: name }]),
          { type: 7, ip: "127.0.0.1" },
          { type: 7, ip: "::1" },
          ...addresses.filter((address) => isIP(address) !== 0).map((ip) => ({ type: 7 as const, ip })),
        ],
      },
    ],
  });
  return parseIdentity({
    certificatePem: pems.cert,
    privateKeyPem: pems.private,
    source: "the new certificate",
    fix: RESTORE,
  });
}

interface Pems {
  readonly certificatePem: string;
  readonly privateKeyPem: string;
  readonly source: string;
  readonly fix: Fix;
}

function parseIdentity(pems: Pems): TlsIdentity {
  try {
    const certificate = new X509Certificate(pems.certificatePem);
    const key = createPrivateKey(pems.privateKeyPem);
    if (!certificate.checkPrivateKey(key)) throw new Error("the key does not belong to the certificate");
    const digest = certificateSha256(certificate);
    if (digest === null) throw new Error("it has no certificate");
    return { certificatePem: pems.certificatePem, privateKeyPem: pems.privateKeyPem, certificateSha256: digest };
  } catch (cause) {
    throw unusable(pems.source, describeFault(cause), pems.fix, cause);
  }
}

async function readText(path: string, fix = RESTORE): Promise<string | null> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") return null;
    throw unusable(path, describeFault(cause), fix, cause);
  }
}

/** Which of the two identities it is, and what mends it. */
interface Fix {
  readonly code: "tls-identity-unusable" | "tls-files-unusable";
  readonly text: string;
}

const RESTORE: Fix = {
  code: "tls-identity-unusable",
  text: "restore it from a backup, or move it away to get a new one (every agent must then join again)",
};
const NAME_BOTH: Fix = {
  code: "tls-files-unusable",
  text: "name a certificate and the private key that it was made for, both as PEM without a password",
};

function unusable(path: string, why: string, fix: Fix, cause?: unknown): FallowError {
  return new FallowError(fix.code, `${path} cannot be used for TLS: ${why}; ${fix.text}`, { data: { path }, cause });
}
