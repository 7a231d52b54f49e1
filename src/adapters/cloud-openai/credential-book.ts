/**
 * The keys of providers: environment variables, or entries of `secrets.json` in the home (`{"name": "secret"}`, readable by its owner
 * only). They leave this file towards the provider and nowhere else; what is stored and shown is the reference.
 */

import { readFileSync, statSync } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { z } from "zod";
import type { CredentialRef } from "../../domain/provider.ts";
import type { Clock } from "../../ports/clock.ts";

const secretsSchema = z.record(z.string(), z.string());
/** A key is one word; anything else could become a header of its own. */
const SECRET = /^[\x21-\x7e]{1,4096}$/;
/** Anyone but the owner can do something with the file. */
const OTHERS = 0o077;
const FILE_BYTES_MAX = 1_048_576;
/** How long a change of the file may stay unseen where nothing is sent. */
const LOOK_AGAIN_MS = 2_000;

interface Kept {
  readonly secrets: Readonly<Record<string, string>>;
  /** Why there are none, as a sentence; null when the file was read. */
  readonly problem: string | null;
  readonly version: string;
}

export interface CredentialSources {
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** `secrets.json`; need not exist. */
  readonly secretsPath: string;
  readonly clock: Clock;
}

export class CredentialBook {
  readonly #sources: CredentialSources;
  #kept: Kept;
  #lookedAtMs: number;
  #looking: Promise<void> | null = null;

  constructor(sources: CredentialSources) {
    this.#sources = sources;
    this.#kept = readNow(sources.secretsPath);
    this.#lookedAtMs = sources.clock.monoMs();
  }

  /** As the file was a moment ago. */
  has(reference: CredentialRef | null): boolean {
    if (this.#sources.clock.monoMs() - this.#lookedAtMs > LOOK_AGAIN_MS) void this.refresh();
    return reference === null || this.#find(reference) !== null;
  }

  /** The secret as it is now; null when none is needed. `problem` names the reference and never the secret. */
  async secret(reference: CredentialRef | null): Promise<{ secret: string | null; problem: string | null }> {
    if (reference === null) return { secret: null, problem: null };
    await this.refresh();
    const secret = this.#find(reference);
    return { secret, problem: secret === null ? this.#missing(reference) : null };
  }

  /** Reads the file when it changed. */
  refresh(): Promise<void> {
    this.#looking ??= this.#look().finally(() => {
      this.#looking = null;
    });
    return this.#looking;
  }

  async #look(): Promise<void> {
    const { secretsPath, clock } = this.#sources;
    this.#lookedAtMs = clock.monoMs();
    try {
      const facts = await stat(secretsPath);
      const version = versionOf(facts);
      if (version === this.#kept.version) return;
      const problem = fileProblem(secretsPath, facts);
      this.#kept = problem === null ? parsed(await readFile(secretsPath, "utf8"), version) : none(problem, version);
    } catch {
      this.#kept = none(null, "");
    }
  }

  #find(reference: CredentialRef): string | null {
    const { environment } = this.#sources;
    const found =
      reference.kind === "environment"
        ? environment[reference.variable]?.trim()
        : ownValue(this.#kept.secrets, reference.name);
    return found !== undefined && SECRET.test(found) ? found : null;
  }

  #missing(reference: CredentialRef): string {
    if (reference.kind === "environment") {
      return `the environment variable ${reference.variable} is not set where the grid runs, or is no key`;
    }
    if (this.#kept.problem !== null) return this.#kept.problem;
    return `secrets.json of the grid's home has no key called ${reference.name} (\`fallow providers secret set ${reference.name}\`)`;
  }
}

function ownValue(secrets: Readonly<Record<string, string>>, name: string): string | undefined {
  return Object.hasOwn(secrets, name) ? secrets[name]?.trim() : undefined;
}

function readNow(path: string): Kept {
  try {
    const facts = statSync(path);
    const problem = fileProblem(path, facts);
    const version = versionOf(facts);
    return problem === null ? parsed(readFileSync(path, "utf8"), version) : none(problem, version);
  } catch {
    return none(null, ""); // most homes have no such file
  }
}

interface FileFacts {
  readonly mode: number;
  readonly size: number;
  readonly mtimeMs: number;
  readonly ino: number;
}

function versionOf({ ino, mode, size, mtimeMs }: FileFacts): string {
  return `${ino}:${mode}:${size}:${mtimeMs}`;
}

function fileProblem(path: string, { mode, size }: FileFacts): string | null {
  if ((mode & OTHERS) !== 0) return `${path} can be read by others: run \`chmod 600 ${path}\``;
  return size > FILE_BYTES_MAX ? `${path} is larger than ${FILE_BYTES_MAX} bytes` : null;
}

function parsed(text: string, version: string): Kept {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    value = null;
  }
  const secrets = secretsSchema.safeParse(value);
  return secrets.success
    ? { secrets: secrets.data, problem: null, version }
    : none('secrets.json is no JSON object of names and keys, {"name": "key"}', version);
}

function none(problem: string | null, version: string): Kept {
  return { secrets: {}, problem, version };
}
