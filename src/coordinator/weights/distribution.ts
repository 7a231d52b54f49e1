/** The coordinator's half of the distribution of weights: contents, tracker and endpoint, put together. */
import { describeFault, FallowError } from "../../domain/fault.ts";
import type { NodeId, Sha256Hex } from "../../domain/ids.ts";
import type { ModelManifest } from "../../domain/model.ts";
import type { LayerShare } from "../../domain/weights.ts";
import type { Clock } from "../../ports/clock.ts";
import type { Crypto, KeyPair } from "../../ports/crypto.ts";
import type { Log } from "../../ports/log.ts";
import type { ModelFiles } from "../../ports/model-files.ts";
import type { Random } from "../../ports/random.ts";
import type { MetaStore } from "../../ports/store.ts";
import type { LinkEstimate } from "../../scheduler/network/link-table.ts";
import type { EndBytes } from "../../scheduler/placement/plan-question.ts";
import { weightsRows } from "../admin/weights-rows.ts";
import type { WeightsRow } from "../admin/weights-schema.ts";
import type { NodeRegistry } from "../registry/node-registry.ts";
import type { ShareFacts } from "./swarm.ts";
import { WeightsTracker } from "./tracker.ts";
import { contentsOf, KeptContents } from "./weights-content.ts";
import { WeightsEndpoint } from "./weights-endpoint.ts";

export interface DistributionPorts {
  readonly clock: Clock;
  readonly crypto: Crypto;
  readonly random: Random;
  readonly log: Log;
  readonly modelFiles: ModelFiles;
  readonly meta: Pick<MetaStore, "get" | "set">;
  readonly registry: NodeRegistry;
  readonly models: {
    byWeights(weightsSha256: Sha256Hex): { readonly manifest: { readonly modelId: string } } | null;
    list(): readonly { readonly manifest: Pick<ModelManifest, "weightsSha256" | "fileBytes"> }[];
    onChange(listener: () => void): void;
  };
  /** From one node to the other, measured or estimated. */
  link?(from: NodeId, to: NodeId): LinkEstimate;
}

export class WeightsDistribution {
  readonly tracker: WeightsTracker;
  readonly endpoint: WeightsEndpoint;
  readonly #ports: DistributionPorts;

  /** Subscribes to the registry: call it before nodes are let in. */
  constructor(told: { readonly gridId: string; readonly gridKey: KeyPair }, ports: DistributionPorts) {
    this.#ports = ports;
    const { registry, models } = ports;
    const contents = new KeptContents(contentsOf(ports.modelFiles, { crypto: ports.crypto, gridKey: told.gridKey }));
    this.tracker = new WeightsTracker({ ...ports, ...told, contents, roster: registry });
    this.endpoint = new WeightsEndpoint({ ...ports, contents, tracker: this.tracker, sessions: registry });
    const isServed = (weightsSha256: Sha256Hex) => models.byWeights(weightsSha256) !== null;
    models.onChange(() => {
      contents.forget(isServed);
      this.tracker.forgetModels(isServed);
    });
  }

  /** The model's id, or the start of a digest that no model has any more. */
  nameOf(weightsSha256: Sha256Hex): string {
    return this.#ports.models.byWeights(weightsSha256)?.manifest.modelId ?? weightsSha256.slice(0, 12);
  }

  /** Where each model's weights are, by digest. */
  rows(): readonly WeightsRow[] {
    const { registry, models } = this.#ports;
    return weightsRows({
      roster: registry,
      swarms: () => this.tracker.swarms(),
      modelOf: (weightsSha256) => models.byWeights(weightsSha256)?.manifest.modelId ?? null,
      registered: () => models.list().map(({ manifest }) => manifest),
    });
  }

  /** Somebody takes from the source what is waited for. */
  isSourceUrgent(): boolean {
    return this.tracker.isSourceUrgent();
  }

  isPeer(nodeId: NodeId): boolean {
    return this.tracker.isPeer(nodeId);
  }

  /** A share of the layers on a node. Null while the manifest is still to be read, which this begins: ask again later. */
  shareOn(nodeId: NodeId, weightsSha256: Sha256Hex, share: LayerShare): ShareFacts | null {
    const swarm = this.tracker.swarms().find((one) => one.weightsSha256 === weightsSha256);
    if (swarm === undefined) void this.#read(weightsSha256);
    return swarm?.shareOn(nodeId, share) ?? null;
  }

  /** What a chain's ends hold. Null while the manifest is still to be read, which this begins: ask again later. */
  endsOf(weightsSha256: Sha256Hex): EndBytes | null {
    const swarm = this.tracker.swarms().find((one) => one.weightsSha256 === weightsSha256);
    if (swarm === undefined) void this.#read(weightsSha256);
    return swarm?.endBytes() ?? null;
  }

  async #read(weightsSha256: Sha256Hex): Promise<void> {
    try {
      await this.tracker.open(weightsSha256);
    } catch (thrown) {
      if (!(thrown instanceof FallowError)) throw thrown;
      this.#ports.log.error({ weightsSha256, cause: describeFault(thrown) }, "manifest cannot be read");
    }
  }

  /** What other nodes reported of it, as sentences for the operator. */
  warningsOf(nodeId: NodeId): readonly string[] {
    const { reports } = this.tracker;
    const nowMs = this.#ports.clock.monoMs();
    const untilMs = reports.quarantined(nowMs).find((one) => one.nodeId === nodeId)?.untilMs;
    if (untilMs !== undefined) {
      const minutes = Math.ceil((untilMs - nowMs) / 60_000);
      return [
        `it sent other nodes weights that were not what they should be: named to nobody for another ${minutes} min`,
      ];
    }
    const accusers = reports.accusersOf(nodeId, nowMs);
    return accusers === 0
      ? []
      : [`${accusers} of the other nodes say that it sent them weights that were not what they should be`];
  }

  stop(): void {
    this.tracker.stop();
  }
}
