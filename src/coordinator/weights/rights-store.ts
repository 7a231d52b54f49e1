/**
 * Rights to weights over restarts of the coordinator: a node in the middle of a download of a private model goes on, though the new life of
 * the coordinator has not ordered it. Written some nodes at a time, a moment after they changed; what a crash takes with it is ordered again.
 */
import { z } from "zod";
import { describeFault, FallowError } from "../../domain/fault.ts";
import { ID_PATTERNS, type NodeId, type Sha256Hex, sha256Hex } from "../../domain/ids.ts";
import type { Clock, Timer } from "../../ports/clock.ts";
import type { Log } from "../../ports/log.ts";
import type { MetaStore } from "../../ports/store.ts";
import { parseJson } from "../../wire/json-frame.ts";

export interface RightsStorePorts {
  readonly meta: Pick<MetaStore, "get" | "set">;
  readonly clock: Clock;
  readonly log: Log;
}

const META = "weights-rights:";
const WRITE_MS = 1_000;
/** In one go: a start with thousands of orders must not stand in the ledger's way. */
const NODES_PER_WRITE = 32;
/** Of one node: those given last. A disk holds tens of models. */
const KEPT_PER_NODE_MAX = 64;

const keptSchema = z.array(z.string().regex(ID_PATTERNS.sha256)).max(KEPT_PER_NODE_MAX);

export class RightsStore {
  readonly #ports: RightsStorePorts;
  readonly #rightsOf: (nodeId: NodeId) => readonly Sha256Hex[];
  readonly #changed = new Set<NodeId>();
  #timer: Timer | null = null;
  #writing: Promise<void> = Promise.resolve();
  #isStopped = false;

  constructor(ports: RightsStorePorts, rightsOf: (nodeId: NodeId) => readonly Sha256Hex[]) {
    this.#ports = ports;
    this.#rightsOf = rightsOf;
  }

  /** What was kept of a node; nothing when that cannot be read. Never rejects for a fault of the store. */
  async read(nodeId: NodeId): Promise<readonly Sha256Hex[]> {
    try {
      const text = await this.#ports.meta.get(`${META}${nodeId}`);
      const kept = keptSchema.safeParse(parseJson(text ?? "[]"));
      return kept.success ? kept.data.map(sha256Hex) : [];
    } catch (thrown) {
      if (!(thrown instanceof FallowError)) throw thrown;
      this.#ports.log.warn({ nodeId, cause: describeFault(thrown) }, "rights to weights cannot be read");
      return [];
    }
  }

  changed(nodeId: NodeId): void {
    this.#changed.add(nodeId);
    if (this.#timer !== null || this.#isStopped) return;
    this.#timer = this.#ports.clock.setTimer(WRITE_MS, () => {
      this.#timer = null;
      this.#writing = this.#writing.then(() => this.#write());
    });
  }

  stop(): void {
    this.#isStopped = true;
    this.#timer?.cancel();
  }

  async #write(): Promise<void> {
    const nodes = [...this.#changed].slice(0, NODES_PER_WRITE);
    for (const nodeId of nodes) {
      this.#changed.delete(nodeId);
      try {
        const rights = this.#rightsOf(nodeId).slice(-KEPT_PER_NODE_MAX);
        await this.#ports.meta.set(`${META}${nodeId}`, JSON.stringify(rights));
      } catch (thrown) {
        if (!(thrown instanceof FallowError)) throw thrown;
        this.#ports.log.warn({ nodeId, cause: describeFault(thrown) }, "rights to weights not kept");
      }
      if (this.#isStopped) return;
    }
    const [next] = this.#changed;
    if (next !== undefined) this.changed(next);
  }
}
