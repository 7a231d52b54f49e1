/** The tables that several commands print. */

import type { ModelRow, NodeRow, ReplicaRow } from "../../coordinator/admin/admin-schemas.ts";
import { formatUsd, microUsd } from "../../domain/money.ts";
import { formatBytes, formatCount, table } from "../format.ts";

export function usd(amount: number): string {
  return formatUsd(microUsd(amount));
}

export function nodeTable(nodes: readonly NodeRow[]): string {
  return table(
    [
      { title: "NODE", dropOrder: 2 },
      { title: "NAME" },
      { title: "STATE" },
      { title: "ENGINE" },
      { title: "MEMORY", isRight: true },
      { title: "TOK/S", isRight: true, dropOrder: 1 },
      { title: "REPLICAS", isRight: true },
      { title: "EARNED USD", isRight: true },
    ],
    nodes.map((node) => [
      node.nodeId,
      node.name,
      node.isYielding ? `${node.state}, yielding` : node.state,
      node.engineVariant,
      formatBytes(node.memoryBytes),
      node.decodeTokPerSecond === null ? "-" : node.decodeTokPerSecond.toFixed(0),
      String(node.replicas),
      usd(node.earnedMicroUsd),
    ]),
    "no node has joined; `fallow join-code` makes a code for one",
  );
}

export function replicaTable(replicas: readonly ReplicaRow[]): string {
  return table(
    [
      { title: "REPLICA", dropOrder: 2 },
      { title: "MODEL" },
      { title: "NODE" },
      { title: "STATE" },
      { title: "BUSY", isRight: true },
      { title: "CONTEXT", isRight: true },
      { title: "MEMORY", isRight: true, dropOrder: 1 },
    ],
    replicas.map((replica) => [
      replica.replicaId,
      replica.modelId ?? "-",
      replica.nodeName,
      stateOf(replica),
      `${replica.slotsBusy}/${replica.slots}`,
      String(replica.contextTokens),
      formatBytes(replica.memoryBytes),
    ]),
    "no replica runs",
  );
}

function stateOf(replica: ReplicaRow): string {
  if (replica.state === "loading") return `loading ${Math.round(replica.progress * 100)} %`;
  return replica.failure === null ? replica.state : `${replica.state}: ${replica.failure}`;
}

export function modelTable(models: readonly ModelRow[]): string {
  return table(
    [
      { title: "MODEL" },
      { title: "ARCHITECTURE", dropOrder: 3 },
      { title: "QUANTISATION" },
      { title: "PARAMETERS", isRight: true, dropOrder: 2 },
      { title: "SIZE", isRight: true, dropOrder: 1 },
      { title: "CONTEXT", isRight: true },
      { title: "USD/MTOK IN", isRight: true },
      { title: "OUT", isRight: true },
      { title: "READY", isRight: true },
    ],
    models.map((model) => [
      model.modelId,
      model.architecture,
      model.quantisation,
      formatCount(model.parameterCount),
      formatBytes(model.fileBytes),
      String(model.contextTokensMax),
      (model.inputMicroUsdPerMtok / 1e6).toFixed(3),
      (model.outputMicroUsdPerMtok / 1e6).toFixed(3),
      `${model.replicasReady}/${model.warmReplicas}`,
    ]),
    "no model is registered; `fallow models add FILE.gguf` adds one",
  );
}
