/** A node's key, exported from one home and restored into another. */
import { mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { NodeCrypto } from "../src/adapters/crypto-node/node-crypto.ts";
import { keptNodeIdentity } from "../src/adapters/node-identity/node-identity.ts";
import { makeHome, removeHome, runFallow } from "./support/grid.ts";

let scratch: string;
let home: string;
beforeAll(async () => {
  scratch = makeHome();
  home = join(scratch, "first");
  mkdirSync(home, { mode: 0o700 });
  await keptNodeIdentity(home, new NodeCrypto());
});
afterAll(() => removeHome(scratch));

const fallow = (folder: string, ...args: readonly string[]) =>
  runFallow(["identity", ...args, "--json"], { home: folder });
const nodeIdOf = ({ json }: { json: unknown }) => (json as { nodeId: string }).nodeId;

test("an exported key makes another home the same node", async () => {
  const file = join(scratch, "node.txt");
  const exported = await fallow(home, "export", file);
  expect(exported.code).toBe(0);
  expect(statSync(file).mode & 0o077).toBe(0);
  const restored = await fallow(join(scratch, "second"), "restore", file);
  expect(restored.code).toBe(0);
  expect(nodeIdOf(restored)).toBe(nodeIdOf(exported));
  expect(nodeIdOf(await fallow(join(scratch, "second"), "export"))).toBe(nodeIdOf(exported));
});

test("a key with a changed letter is refused, and the home stays as it was", async () => {
  const text = readFileSync(join(home, "node.key"), "utf8").trim();
  const file = join(scratch, "changed.txt");
  writeFileSync(file, text.slice(0, -3) + (text.at(-3) === "A" ? "B" : "A") + text.slice(-2));
  const { code, stderr } = await fallow(join(scratch, "third"), "restore", file);
  expect(code).not.toBe(0);
  expect(stderr).not.toContain(text.slice(12, 40));
  expect((await fallow(join(scratch, "third"), "export")).code).toBe(4);
});

test("another identity is never replaced", async () => {
  const other = join(scratch, "fourth");
  mkdirSync(other, { mode: 0o700 });
  await keptNodeIdentity(other, new NodeCrypto());
  const before = readFileSync(join(other, "node.key"), "utf8");
  const { code, stderr } = await fallow(other, "restore", join(home, "node.key"));
  expect(code).not.toBe(0);
  expect(stderr).toContain("holds another identity");
  expect(readFileSync(join(other, "node.key"), "utf8")).toBe(before);
});

test("a home without an identity has none to export", async () => {
  expect((await fallow(join(scratch, "empty"), "export")).code).toBe(4);
});
