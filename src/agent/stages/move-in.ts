/** A stage that takes another's place fetches what that one holds, once, before it is linked (hand-over.ts). */
import { describeFault } from "../../domain/fault.ts";
import { nodeId } from "../../domain/ids.ts";
import type { Timer } from "../../ports/clock.ts";
import type { StageEngine } from "../../ports/stage-engine.ts";
import type { ChainSet } from "../../wire/chain-link.ts";
import type { HeldSequence } from "../../wire/stage-state-request.ts";
import { chainCredential } from "./chain-links.ts";
import type { ChainStagePorts } from "./chain-stage-ports.ts";
import { TAKE_OVER_MS, takeOver } from "./hand-over.ts";

export class MoveIn {
  readonly #ports: ChainStagePorts;
  #running: { readonly epoch: number; readonly life: AbortController; readonly timer: Timer } | null = null;
  #isDone = false;

  constructor(ports: ChainStagePorts) {
    this.#ports = ports;
  }

  /** What could be had is here. */
  get isDone(): boolean {
    return this.#isDone;
  }

  /** Calls `onDone` at once where nothing is to be taken over. */
  run(set: ChainSet, engine: StageEngine, to: { onTaken(held: HeldSequence): void; onDone(): void }): void {
    this.stop();
    this.#isDone = set.takeOver === undefined;
    if (this.#isDone) {
      to.onDone();
      return;
    }
    const life = new AbortController();
    const timer = this.#ports.clock.setTimer(TAKE_OVER_MS, () =>
      life.abort(new Error(`not done in ${TAKE_OVER_MS} ms`)),
    );
    const running = { epoch: set.chainEpoch, life, timer };
    this.#running = running;
    void this.#take(set, engine, life.signal).then((taken) => {
      timer.cancel();
      if (this.#running !== running) return;
      this.#running = null;
      this.#isDone = true;
      for (const held of taken) to.onTaken(held);
      to.onDone();
    });
  }

  stop(): void {
    this.#running?.timer.cancel();
    this.#running?.life.abort(new Error("the chain changed"));
    this.#running = null;
  }

  /** Never rejects. */
  async #take(set: ChainSet, engine: StageEngine, signal: AbortSignal): Promise<readonly HeldSequence[]> {
    const { network, crypto, log } = this.#ports;
    const { takeOver: from, stages, chainId } = set;
    const own = stages.find(({ replicaId }) => replicaId === this.#ports.replicaId);
    if (from === undefined || own === undefined) return [];
    try {
      const target = { nodeId: nodeId(from.nodeId), publicKeyHex: from.publicKey, endpoints: from.endpoints };
      const link = await network.connect(target, chainCredential(set), signal);
      return await takeOver(link, { chainId, first: own.first }, { engine, crypto, log, signal });
    } catch (fault) {
      log.warn({ chainId, cause: describeFault(fault) }, "no way to the stage that leaves");
      return [];
    }
  }
}
