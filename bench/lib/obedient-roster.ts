/** Nodes without machines: they take every order and report the replica ready a few turns later; now and then one is lost for a while. */
import type { ServedModel, ServedModels } from "../../src/coordinator/dispatch/served-models.ts";
import type { NodeView, Roster, RosterHandlers } from "../../src/coordinator/roster.ts";
import { assert } from "../../src/domain/assert.ts";
import { type NodeId, replicaId, sha256Hex } from "../../src/domain/ids.ts";
import type { NodeState } from "../../src/domain/node.ts";
import type { Clock } from "../../src/ports/clock.ts";
import type { Ids } from "../../src/ports/ids.ts";
import type { LoadOrder, PlannedModel } from "../../src/scheduler/placement/plan-question.ts";
import type { NodeFact, ReplicaFact } from "../../src/scheduler/placement/snapshot.ts";
import type { CoordinatorMessage, ReplicaLoad, ReplicaReport } from "../../src/wire/agent-link.ts";

/** Reports of one turn: a thousand nodes do not answer in the same millisecond. */
const ANSWERS_PER_TURN = 2;
/** Of each lost node, before it is back. */
const LOST_NODES_MAX = 5;

export class ObedientRoster implements Roster {
  version = 1;
  loadsSent = 0;
  readonly #views = new Map<NodeId, NodeView>();
  readonly #waiting: { readonly nodeId: NodeId; readonly order: ReplicaLoad }[] = [];
  readonly #lost: NodeId[] = [];
  #list: readonly NodeView[] | null = null;
  #tell: (nodeId: NodeId) => void = () => undefined;
  #losses = 0;

  constructor(nodes: readonly NodeFact[], clock: Clock) {
    for (const node of nodes) this.#views.set(node.nodeId, viewOf(node, clock));
  }

  static fact({ nodeId, modelId, deviceId, weightsSha256, size }: LoadOrder, ids: Ids): ReplicaFact {
    const { contextTokens, sequencesMax: slots, memoryBytes } = size;
    return {
      replicaId: replicaId(ids.make("rep")),
      nodeId,
      modelId,
      deviceId,
      weightsSha256,
      state: "ready",
      slots,
      slotsLeased: 0,
      contextTokens,
      memoryBytes,
      lastUsedAtMs: 0,
    };
  }

  tellTo(tell: (nodeId: NodeId) => void): void {
    this.#tell = tell;
  }

  nodes(): readonly NodeView[] {
    this.#list ??= [...this.#views.values()];
    return this.#list;
  }

  node(nodeId: NodeId): NodeView | null {
    return this.#views.get(nodeId) ?? null;
  }

  send(nodeId: NodeId, message: CoordinatorMessage): boolean {
    if (this.#views.get(nodeId)?.state !== "online") return false;
    // As the real one: the frame is written at once.
    JSON.stringify(message);
    if (message.type === "replica.load") {
      this.loadsSent += 1;
      this.#waiting.push({ nodeId, order: message });
    }
    if (message.type === "replica.unload") {
      const replicas = this.#views.get(nodeId)?.replicas ?? [];
      this.#change(nodeId, { replicas: replicas.filter((report) => report.replicaId !== message.replicaId) });
    }
    return true;
  }

  reportBreach(): void {
    assert(false, "nobody breaks the protocol here");
  }

  subscribe(_handlers: RosterHandlers): void {
    // The bench tells the pool itself.
  }

  /** Some nodes report what they were told to load. */
  answerSome(): void {
    for (const { nodeId, order } of this.#waiting.splice(0, ANSWERS_PER_TURN)) {
      const replicas = this.#views.get(nodeId)?.replicas ?? [];
      this.#change(nodeId, { replicas: [...replicas, reportOf(order)] });
    }
  }

  /** One node that holds replicas goes; the one that has been away longest comes back without them. */
  loseOne(): void {
    const holding = this.nodes().filter(({ state, replicas }) => state === "online" && replicas.length > 0);
    const victim = holding[(this.#losses++ * 7) % Math.max(1, holding.length)];
    if (victim !== undefined) {
      this.#lost.push(victim.nodeId);
      this.#changeState(victim.nodeId, "offline");
    }
    const back = this.#lost.length > LOST_NODES_MAX ? this.#lost.shift() : undefined;
    if (back !== undefined) this.#changeState(back, "online");
  }

  #changeState(nodeId: NodeId, state: NodeState): void {
    this.#change(nodeId, { state, ...(state === "online" ? { replicas: [] } : {}) });
  }

  #change(nodeId: NodeId, change: Partial<NodeView>): void {
    const view = this.#views.get(nodeId);
    if (view === undefined) return;
    this.#views.set(nodeId, { ...view, ...change });
    this.#list = null;
    this.version += 1;
    this.#tell(nodeId);
  }
}

export function servedModels(models: readonly PlannedModel[]): ServedModels {
  const served = models.map((model) => servedModel(model));
  const byId = new Map(served.map((model) => [model.manifest.modelId, model]));
  return {
    get: (modelId) => byId.get(modelId) ?? null,
    byWeights: (digest) => served.find(({ manifest }) => manifest.weightsSha256 === digest) ?? null,
    list: () => served,
  };
}

function servedModel(model: PlannedModel): ServedModel {
  const [file] = model.variants;
  assert(file !== undefined, "each model has a file");
  const { modelId, contextTokensMax, layerCount, embeddingLength, warmReplicas, valueMicroUsdPerMtok } = model;
  const { quantisation, weightsSha256, fileBytes, kvBytesPerToken } = file;
  return {
    manifest: {
      modelId,
      weightsSha256,
      fileBytes,
      name: modelId,
      architecture: "llama",
      quantisation,
      parameterCount: fileBytes,
      layerCount,
      embeddingLength,
      headCount: 32,
      headCountKv: 8,
      vocabSize: 32_000,
      contextTokensMax,
      kvBytesPerToken,
      chatTemplate: null,
      chatTemplateSha256: null,
      tokenizerSha256: sha256Hex("0".repeat(64)),
      licence: null,
      price: { inputMicroUsdPerMtok: 0, outputMicroUsdPerMtok: valueMicroUsdPerMtok },
      warmReplicas,
      addedAtMs: 0,
    },
    tokenizer: { vocabSize: 32_000, stopTokenIds: [] },
  };
}

export function viewOf(node: NodeFact, clock: Clock): NodeView {
  const devices = [...node.devices];
  return {
    nodeId: node.nodeId,
    publicKeyHex: "00".repeat(32),
    name: node.nodeId,
    state: node.state,
    isYielding: node.isYielding,
    capabilities: {
      platform: "linux-x64",
      cpuModel: "drawn",
      cpuCores: 8,
      memoryBytes: 32e9,
      diskFreeBytes: 1e12,
      devices,
      engineVariant: devices.some(({ kind }) => kind === "gpu") ? "cuda" : "cpu",
      engineVersion: "bench",
      referenceSpeed:
        node.decodeTokPerSecond === null
          ? null
          : { prefillTokPerSecond: 0, decodeTokPerSecond: node.decodeTokPerSecond, measuredAtMs: 0 },
    },
    replicas: [],
    rttMs: 20,
    lastMessageMonoMs: clock.monoMs(),
    joinedAtMs: 0,
    region: node.region ?? null,
    owner: node.owner ?? null,
    network: node.network ?? null,
  };
}

function reportOf(order: ReplicaLoad): ReplicaReport {
  const { sequencesMax: slots, contextTokens, deviceId, weightsSha256 } = order;
  return {
    replicaId: order.replicaId,
    state: "ready",
    progress: 1,
    slots,
    slotsBusy: 0,
    queued: 0,
    contextTokens,
    numericClass: "bench",
    memoryBytes: 0,
    weightsSha256,
    deviceId,
    failure: null,
  };
}
