/**
 * home.json: what this home must not lose and must not show. It is written before the store learns of the key, so a crash
 * between the two leaves a secret that the next start registers, never a key whose secret nobody has.
 */
import { z } from "zod";
import { type HomeFolder, readJsonFile, writeFileSafely } from "./home-folder.ts";

const secretsSchema = z.object({
  /** The operator's API key with all scopes. */
  apiKey: z.string().min(16),
  /** Ed25519 seed of the coordinator's signatures, 64 hex. */
  coordinatorSeedHex: z.string().regex(/^[0-9a-f]{64}$/),
});
export type HomeSecrets = z.infer<typeof secretsSchema>;

const HOME_FILE = "home.json";

export function readSecrets(home: HomeFolder): HomeSecrets | null {
  return readJsonFile(home.at(HOME_FILE), secretsSchema);
}

export function writeSecrets(home: HomeFolder, secrets: HomeSecrets): void {
  writeFileSafely(home.at(HOME_FILE), `${JSON.stringify(secrets)}\n`);
}
