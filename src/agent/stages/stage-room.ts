/** The stages of a node: each is a replica's engine and its place in a chain. The runner says when one comes and goes; other nodes meet them in the hall. */

import { sequenceId } from "../../domain/chain.ts";
import { replicaId } from "../../domain/ids.ts";
import type { Clock } from "../../ports/clock.ts";
import type { Crypto } from "../../ports/crypto.ts";
import type { Engine } from "../../ports/engine.ts";
import type { Log } from "../../ports/log.ts";
import type { AgentMessage, ReplicaLoad } from "../../wire/agent-link.ts";
import type { ChainSet, FingerprintAsk, ProgressAsk, SequencesOver } from "../../wire/chain-link.ts";
import { ActivationLog } from "./activation-log.ts";
import { ChainStage } from "./chain-stage.ts";
import { createHeadDesk } from "./head/head-desk.ts";
import { StageHall } from "./stage-hall.ts";
import { ACTIVATION_BYTES_MAX, SPILL_BYTES_MAX, type StageParts } from "./stage-parts.ts";

interface RoomPorts {
  readonly clock: Clock;
  readonly crypto: Crypto;
  readonly log: Log;
  readonly stages: StageParts;
  tell(message: AgentMessage): void;
}

export class StageRoom {
  readonly #ports: RoomPorts;
  readonly #hall: StageHall;
  readonly #chains = new Map<string, { readonly chain: ChainStage; readonly activations: ActivationLog }>();

  constructor(ports: RoomPorts) {
    this.#ports = ports;
    this.#hall = new StageHall({ log: ports.log, wallMs: () => ports.clock.wallMs() });
    ports.stages.serveChains(this.#hall);
  }

  /** `draft`: the small model that drafts for a first stage; null while it is not here. */
  open(load: ReplicaLoad, draft: () => Engine | null): ChainStage {
    const { clock, crypto, log, stages, tell } = this.#ports;
    const activations = new ActivationLog({
      memoryBytesMax: stages.activationBytesMax ?? ACTIVATION_BYTES_MAX,
      spillBytesMax: SPILL_BYTES_MAX,
      spill: stages.spill(load.replicaId),
      onFault: (fault) =>
        log.warn({ replicaId: load.replicaId, cause: String(fault) }, "activations were not kept on disk"),
    });
    const chain = new ChainStage({
      clock,
      crypto,
      log,
      network: stages.network,
      replicaId: replicaId(load.replicaId),
      firstLayer: load.stage?.first ?? 0,
      activations,
      hall: this.#hall,
      createHead: (ports) => createHeadDesk({ ...ports, speculates: stages.speculates ?? true }),
      draft,
      tell,
    });
    this.#chains.set(load.replicaId, { chain, activations });
    return chain;
  }

  get(id: string): ChainStage | null {
    return this.#chains.get(id)?.chain ?? null;
  }

  /** Null, or why the order is for nobody here. */
  order(set: ChainSet): string | null {
    const chain = this.get(set.replicaId);
    if (chain === null) return `${set.replicaId} is no stage of this node`;
    chain.order(set);
    return null;
  }

  /** The coordinator compares what a stage got with what others got. One that is not here any more says nothing. */
  tellFingerprint({ replicaId, chainId, sequence }: FingerprintAsk): void {
    const chain = this.get(replicaId);
    if (chain === null) return;
    const known = chain.set?.chainId === chainId ? chain.watch.fingerprint(sequenceId(sequence)) : null;
    const fingerprint = known === null ? null : { rms: [...known.rms], sketch: [...known.sketch] };
    this.#ports.tell({ type: "chain.fingerprint", replicaId, chainId, sequence, fingerprint });
  }

  /** One that is not here any more says nothing. */
  tellProgress(ask: ProgressAsk): void {
    this.get(ask.replicaId)?.tellProgress(ask);
  }

  over({ replicaId, sequences }: SequencesOver): void {
    this.get(replicaId)?.over(sequences.map(sequenceId));
  }

  async close(id: string): Promise<void> {
    const known = this.#chains.get(id);
    if (known === undefined) return;
    this.#chains.delete(id);
    known.chain.stop();
    this.#hall.remove(known.chain);
    await known.activations.close();
  }

  onLineUp(): void {
    for (const { chain } of this.#chains.values()) chain.onLineUp();
  }

  onLineDown(): void {
    for (const { chain } of this.#chains.values()) chain.onLineDown();
  }
}
