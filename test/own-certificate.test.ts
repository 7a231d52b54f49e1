/** `fallow up` with a certificate of the operator's. */
import { X509Certificate } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { keptTlsIdentity } from "../src/adapters/tls-identity/tls-identity.ts";
import { decodeJoinCode } from "../src/wire/join-code.ts";
import { runFallow, startAgent, startGrid } from "./support/grid.ts";

let folder: string;
let own: { certificate: string; key: string; sha256: string; pem: string };
let otherKey: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "fallow-own-certificate-"));
  const made = await keptTlsIdentity(join(folder, "own"), ["127.0.0.1"]);
  const other = await keptTlsIdentity(join(folder, "other"));
  const pem = new X509Certificate(made.certificatePem).toString();
  own = { certificate: join(folder, "own.crt"), key: join(folder, "own.key"), sha256: made.certificateSha256, pem };
  otherKey = join(folder, "other.key");
  await writeFile(own.certificate, pem);
  await writeFile(own.key, made.privateKeyPem);
  await writeFile(otherKey, other.privateKeyPem);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe("a grid with the operator's certificate", () => {
  test("shows it to clients that trust it, and agents join over it by its fingerprint", async () => {
    await using grid = await startGrid({ args: ["--no-agent", "--tls-cert", own.certificate, "--tls-key", own.key] });
    const code = decodeJoinCode(grid.joinCode);
    expect(code).toMatchObject({ ok: true, value: { certificateSha256: own.sha256 } });
    const url = grid.baseUrl.replace(/^http:/, "https:");
    expect(code.ok && code.value.urls).toContain(url);
    const status = await new Promise<number>((resolve, reject) => {
      const call = request(`${url}/health`, { ca: own.pem, agent: false }, (answer) => {
        answer.resume().once("end", () => resolve(answer.statusCode ?? 0));
      });
      call.once("error", reject).end();
    });
    expect(status).toBe(200);
    await using agent = await startAgent(grid.joinCode, { until: "online" });
    expect(agent.events()).toContainEqual(expect.objectContaining({ event: "connecting", url }));
  });

  test("does not start with a key of another certificate, and names both files", async () => {
    const args = [
      "up",
      "--port",
      "0",
      "--home",
      join(folder, "home"),
      "--tls-cert",
      own.certificate,
      "--tls-key",
      otherKey,
    ];
    const { code, stderr } = await runFallow(args);
    expect(code).toBe(1);
    expect(stderr).toContain(`${own.certificate} with ${otherKey} cannot be used for TLS`);
    expect(stderr).toContain("the key does not belong to the certificate");
    expect(stderr).toMatch(/fix: give --tls-cert and --tls-key files that belong together/);
  });

  test("needs both files", async () => {
    const { code, stderr } = await runFallow(["up", "--home", join(folder, "home"), "--tls-cert", own.certificate]);
    expect(code).toBe(2);
    expect(stderr).toContain("--tls-cert was given without --tls-key");
  });
});
