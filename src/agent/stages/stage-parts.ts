/** What a node needs to hold stages of chains, beside what it needs for whole models. */
import type { ActivationSpill } from "../../ports/activation-spill.ts";
import type { PeerNetwork } from "../../ports/peer-link.ts";
import type { StageEngineHost } from "../../ports/stage-engine.ts";
import type { StageFiles } from "../../ports/stage-files.ts";
import type { ChainServer } from "./stage-hall.ts";

export interface StageParts {
  readonly engines: StageEngineHost;
  readonly files: StageFiles;
  readonly network: Pick<PeerNetwork, "connect" | "open">;
  /** What other nodes say to chains goes there (peer-server.ts). Called once. */
  serveChains(server: ChainServer): void;
  /** Disk for what a stage sent, by the stage's replica id; null keeps it in memory alone. */
  spill(replicaId: string): ActivationSpill | null;
  /** False: first stages here send no drafts. True where it is absent. */
  readonly speculates?: boolean;
  /** Tests: what memory keeps of what was sent, instead of `ACTIVATION_BYTES_MAX`. */
  readonly activationBytesMax?: number;
}

/** Of one stage, in memory: minutes of text for all its sequences, and little beside its weights. */
export const ACTIVATION_BYTES_MAX = 64 * 1024 * 1024;
/** On disk. */
export const SPILL_BYTES_MAX = 2 * 1024 ** 3;
