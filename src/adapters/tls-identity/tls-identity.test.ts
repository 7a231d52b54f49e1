import { X509Certificate } from "node:crypto";
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { isLoopback } from "./loopback.ts";
import { givenTlsIdentity, keptTlsIdentity } from "./tls-identity.ts";

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "fallow-tls-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

describe("the coordinator's certificate", () => {
  test("is made once, and its fingerprint stays what agents have pinned", async () => {
    const first = await keptTlsIdentity(folder);
    const second = await keptTlsIdentity(folder);
    expect(second.certificateSha256).toBe(first.certificateSha256);
    const shown = new X509Certificate(first.certificatePem).fingerprint256.replaceAll(":", "").toLowerCase();
    expect(first.certificateSha256).toBe(shown);
    expect((await stat(join(folder, "identity.pem"))).mode & 0o777).toBe(0o600);
  });

  test("fits this machine and outlives its operator's patience", async () => {
    const certificate = new X509Certificate((await keptTlsIdentity(folder)).certificatePem);
    expect(certificate.subjectAltName).toContain("IP Address:127.0.0.1");
    expect(certificate.ca).toBe(false);
    expect(new Date(certificate.validTo).getUTCFullYear()).toBe(2049);
    expect(new Date(certificate.validFrom).getTime()).toBeLessThan(Date.now());
  });

  test("may be the operator's own", async () => {
    const { certificatePem, privateKeyPem, certificateSha256 } = await keptTlsIdentity(folder);
    const paths = { certificatePath: join(folder, "own.crt"), keyPath: join(folder, "own.key") };
    await writeFile(paths.certificatePath, new X509Certificate(certificatePem).toString());
    await writeFile(paths.keyPath, privateKeyPem);
    expect((await givenTlsIdentity(paths)).certificateSha256).toBe(certificateSha256);
  });

  test("that is damaged, missing or does not fit its key is refused and left as it is", async () => {
    const kept = await keptTlsIdentity(folder);
    const other = await keptTlsIdentity(join(folder, "other"));
    const crossed = `${other.privateKeyPem}\n${new X509Certificate(kept.certificatePem).toString()}`;
    for (const text of ["", "-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n", crossed]) {
      await writeFile(join(folder, "identity.pem"), text);
      await expect(keptTlsIdentity(folder)).rejects.toMatchObject({ code: "tls-identity-unusable" });
      expect(await readFile(join(folder, "identity.pem"), "utf8")).toBe(text);
    }
    const missing = { certificatePath: join(folder, "no.crt"), keyPath: join(folder, "no.key") };
    await expect(givenTlsIdentity(missing)).rejects.toMatchObject({ code: "tls-files-unusable" });
  });
});

test("loopback is every form of this machine, and nothing else", () => {
  for (const host of ["127.0.0.1", "127.8.9.1", "::1", "[::1]", "localhost", "LOCALHOST", "::ffff:127.0.0.1"]) {
    expect(isLoopback(host), host).toBe(true);
  }
  for (const host of [
    "0.0.0.0",
    "::",
    "10.0.0.1",
    "::ffff:10.0.0.1",
    "example.org",
    "localhost.example.org",
    "127.0.0.1.nip.io",
    undefined,
  ]) {
    expect(isLoopback(host), host).toBe(false);
  }
});
