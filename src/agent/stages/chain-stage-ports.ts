/** What a stage of a chain uses of its node. */
import type { ReplicaId } from "../../domain/ids.ts";
import type { Clock } from "../../ports/clock.ts";
import type { Crypto } from "../../ports/crypto.ts";
import type { Engine } from "../../ports/engine.ts";
import type { Log } from "../../ports/log.ts";
import type { PeerNetwork } from "../../ports/peer-link.ts";
import type { AgentMessage } from "../../wire/agent-link.ts";
import type { ActivationLog } from "./activation-log.ts";
import type { ChainStage } from "./chain-stage.ts";
import type { HeadDesk, HeadPorts } from "./stage-roles.ts";

export interface ChainStagePorts {
  readonly clock: Clock;
  readonly crypto: Crypto;
  readonly log: Log;
  readonly network: Pick<PeerNetwork, "connect" | "open">;
  /** Of the stage. */
  readonly replicaId: ReplicaId;
  readonly firstLayer: number;
  readonly activations: ActivationLog;
  /** Sends what comes for its channels to it. */
  readonly hall: { changed(stage: ChainStage): void };
  createHead(ports: HeadPorts): HeadDesk;
  draft(): Engine | null;
  /** To the coordinator; lost while there is no line. */
  tell(message: AgentMessage): void;
}
