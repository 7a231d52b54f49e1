import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { SystemClock } from "../clock-system/system-clock.ts";
import { CredentialBook } from "./credential-book.ts";

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "fallow-secrets-"));
  path = join(folder, "secrets.json");
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const book = (environment: Readonly<Record<string, string>> = {}) =>
  new CredentialBook({ environment, secretsPath: path, clock: new SystemClock() });
const keep = (text: string, mode = 0o600) => {
  writeFileSync(path, text);
  chmodSync(path, mode);
};
const secret = (name: string) => ({ kind: "secret", name }) as const;

describe("keys of providers", () => {
  test("none is needed, one is in the environment, one in the file", async () => {
    keep('{"acme": "sk-file"}');
    const keys = book({ ACME_KEY: " sk-env\n" });
    expect(await keys.secret(null)).toEqual({ secret: null, problem: null });
    expect(await keys.secret({ kind: "environment", variable: "ACME_KEY" })).toEqual({
      secret: "sk-env",
      problem: null,
    });
    expect(await keys.secret(secret("acme"))).toEqual({ secret: "sk-file", problem: null });
    expect([keys.has(null), keys.has(secret("acme")), keys.has(secret("other"))]).toEqual([true, true, false]);
  });

  test("a change of the file is seen by the next request", async () => {
    const keys = book();
    expect((await keys.secret(secret("acme"))).problem).toContain("no key called acme");
    keep('{"acme": "sk-1"}');
    expect((await keys.secret(secret("acme"))).secret).toBe("sk-1");
    expect(keys.has(secret("acme"))).toBe(true);
    rmSync(path);
    expect((await keys.secret(secret("acme"))).secret).toBeNull();
  });

  test("a file that others can read is not used, and the message says how to mend it", async () => {
    keep('{"acme": "sk-1"}', 0o644);
    const found = await book().secret(secret("acme"));
    expect(found.secret).toBeNull();
    expect(found.problem).toContain(`chmod 600 ${path}`);
  });

  test.each(["not json", "[]", '{"acme": 5}'])("a file that holds %s gives no key and says its form", async (text) => {
    keep(text);
    expect((await book().secret(secret("acme"))).problem).toContain('{"name": "key"}');
  });

  test("what could not stand in a header is no key, and names of every object are none", async () => {
    keep('{"acme": "a\\nb: c"}');
    const keys = book({ EMPTY: "" });
    expect((await keys.secret(secret("acme"))).secret).toBeNull();
    expect((await keys.secret(secret("toString"))).secret).toBeNull();
    const { problem } = await keys.secret({ kind: "environment", variable: "EMPTY" });
    expect(problem).toContain("EMPTY is not set");
  });
});
