/** run.json: who runs in this home. Other commands find the grid through it; a wrong one only costs a failed connection. */
import { rmSync } from "node:fs";
import { z } from "zod";
import { type HomeFolder, readJsonFile, writeFileSafely } from "./home-folder.ts";

const runFileSchema = z.object({
  pid: z.number().int().positive(),
  /** `http(s)://host:port` as reached from this machine; null until the server listens. */
  url: z.string().nullable(),
  /** SHA-256 of the certificate when the URL is https. */
  certificateSha256: z.string().nullable(),
  startedAtMs: z.number().int(),
});
export type RunFile = z.infer<typeof runFileSchema>;

export const UP_LOCK = "up.lock";
const RUN_FILE = "run.json";

export function readRunFile(home: HomeFolder): RunFile | null {
  return readJsonFile(home.at(RUN_FILE), runFileSchema);
}

export function writeRunFile(home: HomeFolder, run: RunFile): void {
  writeFileSafely(home.at(RUN_FILE), `${JSON.stringify(run)}\n`);
}

export function removeRunFile(home: HomeFolder): void {
  rmSync(home.at(RUN_FILE), { force: true });
}
