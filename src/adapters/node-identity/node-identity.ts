/**
 * The node's identity for good: an Ed25519 seed in a file of the home that only its owner can read. Earnings and reputation
 * hang on it, so it can be written down and taken to another machine, and nothing ever replaces it silently.
 */
import { createHash, randomBytes } from "node:crypto";
import { chmod, link, mkdir, open, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { describeFault, FallowError } from "../../domain/fault.ts";
import { no, type Outcome, ok } from "../../domain/refusal.ts";
import type { Crypto, KeyPair } from "../../ports/crypto.ts";

const FILE = "node.key";
const PREFIX = "fallow-key1_";
const SEED_BYTES = 32;
const CHECKSUM_BYTES = 4;
/** No such text is longer; what is longer is not read. */
const TEXT_CHARS_MAX = 200;

/**
 * The key pair kept in `folder`, made the first time; when two processes start at once, both get the one that was first. Rejects
 * with a `FallowError` (`node-identity-damaged`, `node-identity-unusable`).
 */
export async function keptNodeIdentity(folder: string, crypto: Crypto): Promise<KeyPair> {
  const path = join(folder, FILE);
  const kept = await readKept(path);
  if (kept !== null) return crypto.keyPairFrom(kept);
  const made = crypto.generateKeyPair();
  const isOurs = await writeNew(folder, path, made.seed);
  if (isOurs) return made;
  const first = await readKept(path);
  if (first === null) throw damaged(path, "it vanished while it was being made");
  return crypto.keyPairFrom(first);
}

/** The identity as one line of text. It is the secret itself: whoever has it is the node. */
export function exportNodeIdentity(keyPair: KeyPair): string {
  return PREFIX + Buffer.concat([keyPair.seed, checksum(keyPair.seed)]).toString("base64url");
}

/** Reads what `exportNodeIdentity` wrote. The refusal says what is wrong with the text, and never repeats it. */
export function parseNodeIdentity(text: string): Outcome<Uint8Array, string> {
  const compact = text.slice(0, TEXT_CHARS_MAX).replace(/\s+/g, "");
  if (!compact.startsWith(PREFIX)) return no(`an exported key starts with ${PREFIX}`);
  const bytes = Buffer.from(compact.slice(PREFIX.length), "base64url");
  if (bytes.length !== SEED_BYTES + CHECKSUM_BYTES) {
    return no(
      `the exported key is cut or too long: it holds ${bytes.length} bytes, not ${SEED_BYTES + CHECKSUM_BYTES}`,
    );
  }
  const seed = new Uint8Array(bytes.subarray(0, SEED_BYTES));
  return checksum(seed).equals(bytes.subarray(SEED_BYTES)) ? ok(seed) : no("a letter of the exported key was changed");
}

/**
 * Puts an exported identity into a home that has none, or the same one. Rejects: `node-identity-text-wrong`,
 * `node-identity-exists` when the home has another identity, which would be lost.
 */
export async function restoreNodeIdentity(folder: string, text: string, crypto: Crypto): Promise<KeyPair> {
  const seed = parseNodeIdentity(text);
  if (!seed.ok) throw new FallowError("node-identity-text-wrong", seed.reason);
  const path = join(folder, FILE);
  const isOurs = await writeNew(folder, path, seed.value);
  const kept = isOurs ? seed.value : await readKept(path);
  if (kept === null || !crypto.isEqual(kept, seed.value)) {
    throw new FallowError(
      "node-identity-exists",
      `${path} holds another identity: export it first, then move the file away, or restore into another home`,
      { data: { path } },
    );
  }
  return crypto.keyPairFrom(seed.value);
}

async function readKept(path: string): Promise<Uint8Array | null> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") return null;
    throw new FallowError("node-identity-unusable", `${path} cannot be read: ${describeFault(cause)}`, {
      data: { path },
      cause,
    });
  }
  const seed = parseNodeIdentity(text);
  if (!seed.ok) throw damaged(path, seed.reason);
  return seed.value;
}

/** False when the file exists already. It appears with its whole content or not at all. */
async function writeNew(folder: string, path: string, seed: Uint8Array): Promise<boolean> {
  const temporary = join(folder, `.${randomBytes(6).toString("hex")}.tmp`);
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const file = await open(temporary, "wx", 0o600);
    try {
      await file.writeFile(`${PREFIX}${Buffer.concat([seed, checksum(seed)]).toString("base64url")}\n`);
      await file.sync();
    } finally {
      await file.close();
    }
    await chmod(temporary, 0o600);
    await link(temporary, path); // unlike rename, this fails when somebody was first
    return true;
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && cause.code === "EEXIST") return false;
    throw new FallowError("node-identity-unusable", `${path} cannot be written: ${describeFault(cause)}`, {
      data: { path },
      cause,
    });
  } finally {
    await rm(temporary, { force: true });
  }
}

function checksum(seed: Uint8Array): Buffer {
  return createHash("sha256").update("fallow-key1").update(seed).digest().subarray(0, CHECKSUM_BYTES);
}

function damaged(path: string, why: string): FallowError {
  const fix = "restore it from an exported key, or move the file away to become a new node";
  return new FallowError("node-identity-damaged", `${path} holds no usable key (${why}): ${fix}`, { data: { path } });
}
