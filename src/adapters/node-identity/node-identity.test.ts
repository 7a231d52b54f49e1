import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { NodeCrypto } from "../crypto-node/node-crypto.ts";
import { exportNodeIdentity, keptNodeIdentity, parseNodeIdentity, restoreNodeIdentity } from "./node-identity.ts";

const crypto = new NodeCrypto();
let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "fallow-identity-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

test("the identity is made once and is the same at every start", async () => {
  const home = join(folder, "not", "there", "yet");
  const first = await keptNodeIdentity(home, crypto);
  expect(await keptNodeIdentity(home, crypto)).toMatchObject({ publicKey: first.publicKey, seed: first.seed });
  const { mode } = await stat(join(home, "node.key"));
  expect(mode & 0o777).toBe(0o600);
});

test("processes that start at the same time in one home are one node", async () => {
  const all = await Promise.all(Array.from({ length: 8 }, () => keptNodeIdentity(folder, crypto)));
  expect(new Set(all.map(({ publicKey }) => Buffer.from(publicKey).toString("hex"))).size).toBe(1);
});

test("an exported identity is the same node on another machine", async () => {
  const keyPair = await keptNodeIdentity(folder, crypto);
  const text = exportNodeIdentity(keyPair);
  const restored = await restoreNodeIdentity(join(folder, "elsewhere"), ` ${text}\n`, crypto);
  expect(restored.publicKey).toEqual(keyPair.publicKey);
  expect((await keptNodeIdentity(join(folder, "elsewhere"), crypto)).publicKey).toEqual(keyPair.publicKey);
  await restoreNodeIdentity(folder, text, crypto); // the same one again changes nothing
});

test("restoring never replaces another identity", async () => {
  const here = await keptNodeIdentity(folder, crypto);
  const other = exportNodeIdentity(crypto.generateKeyPair());
  await expect(restoreNodeIdentity(folder, other, crypto)).rejects.toMatchObject({ code: "node-identity-exists" });
  expect((await keptNodeIdentity(folder, crypto)).publicKey).toEqual(here.publicKey);
});

test("a text that was cut, altered or is something else is refused without being repeated", async () => {
  const text = exportNodeIdentity(crypto.generateKeyPair());
  const altered = text.slice(0, 20) + (text[20] === "A" ? "B" : "A") + text.slice(21);
  for (const wrong of ["", "hello", text.slice(0, -5), `${text}AAAA`, altered]) {
    const parsed = parseNodeIdentity(wrong);
    expect(parsed.ok).toBe(false);
    if (!parsed.ok && wrong !== "") expect(parsed.reason).not.toContain(wrong);
    await expect(restoreNodeIdentity(folder, wrong, crypto)).rejects.toMatchObject({
      code: "node-identity-text-wrong",
    });
  }
});

test("a damaged file is reported with its fix, and is never overwritten", async () => {
  const path = join(folder, "node.key");
  await writeFile(path, "fallow-key1_broken");
  await expect(keptNodeIdentity(folder, crypto)).rejects.toMatchObject({ code: "node-identity-damaged" });
  expect(await readFile(path, "utf8")).toBe("fallow-key1_broken");
});
