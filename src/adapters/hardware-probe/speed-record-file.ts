/** The SpeedRecord port as one small JSON file of the home. */
import { randomBytes } from "node:crypto";
import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { z } from "zod";
import type { ReferenceSpeed } from "../../domain/hardware.ts";
import type { SpeedRecord } from "../../ports/speed-record.ts";
import { parseJson } from "../../wire/json-frame.ts";

/** Engines and models of some years; the oldest go first. */
const ENTRIES_MAX = 16;

const fileSchema = z.record(
  z.string().max(256),
  z.object({
    prefillTokPerSecond: z.number().min(0),
    decodeTokPerSecond: z.number().min(0),
    measuredAtMs: z.number().int().min(0),
  }),
);

export class SpeedRecordFile implements SpeedRecord {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  async load(key: string): Promise<ReferenceSpeed | null> {
    return (await this.#read())[key] ?? null;
  }

  async save(key: string, speed: ReferenceSpeed): Promise<void> {
    const { [key]: _replaced, ...others } = await this.#read();
    const entries = [...Object.entries(others), [key, speed] as const].slice(-ENTRIES_MAX);
    const temporary = join(dirname(this.#path), `.${randomBytes(6).toString("hex")}.tmp`);
    try {
      await mkdir(dirname(this.#path), { recursive: true, mode: 0o700 });
      await writeFile(temporary, `${JSON.stringify(Object.fromEntries(entries))}\n`, { flag: "wx", mode: 0o600 });
      await rename(temporary, this.#path);
    } catch {
      await rm(temporary, { force: true }); // not kept: the next start measures again
    }
  }

  async #read(): Promise<Readonly<Record<string, ReferenceSpeed>>> {
    try {
      return fileSchema.parse(parseJson(await readFile(this.#path, "utf8")));
    } catch {
      return {}; // absent or damaged: what is missing is measured again
    }
  }
}
