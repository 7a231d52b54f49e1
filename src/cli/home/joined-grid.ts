/** grid.json in an agent's home: which grid this machine belongs to, so that `fallow join` needs its code once only. */
import { z } from "zod";
import { GRID_ID_PATTERN } from "../../wire/join-code.ts";
import { type HomeFolder, readJsonFile, writeFileSafely } from "./home-folder.ts";

const joinedGridSchema = z.object({
  gridId: z.string().regex(GRID_ID_PATTERN),
  urls: z.array(z.string()).min(1).max(4),
  certificateSha256: z.string().nullable(),
  /** What the grid signs with, as the node met it first. */
  gridPublicKeyHex: z
    .string()
    .regex(/^[0-9a-f]{64}$/)
    .nullable()
    .default(null),
});
export type JoinedGrid = z.infer<typeof joinedGridSchema>;

const GRID_FILE = "grid.json";

export function readJoinedGrid(home: HomeFolder): JoinedGrid | null {
  return readJsonFile(home.at(GRID_FILE), joinedGridSchema);
}

/** The token is left out: it was used, and the node's key is what the grid knows from here on. */
export function writeJoinedGrid(home: HomeFolder, grid: JoinedGrid): void {
  const { gridId, urls, certificateSha256, gridPublicKeyHex } = grid;
  writeFileSafely(home.at(GRID_FILE), `${JSON.stringify({ gridId, urls, certificateSha256, gridPublicKeyHex })}\n`);
}
