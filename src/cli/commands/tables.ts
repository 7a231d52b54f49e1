/** The tables that several commands print. */

import type { ModelRow, NodeRow, ReplicaRow } from "../../coordinator/admin/admin-schemas.ts";
import type { LinkRow, WeightsRow } from "../../coordinator/admin/weights-schema.ts";
import { formatUsd, microUsd } from "../../domain/money.ts";
import { formatBytes, formatCount, plain, table } from "../format.ts";

/** Of a node that fetches, layers are whole here and there; more runs tell nobody anything. */
const LAYER_RUNS_SHOWN_MAX = 3;

export function usd(amount: number): string {
  return formatUsd(microUsd(amount));
}

/** Layers that a node holds of a model that is split over several. */
export interface NodeStage {
  readonly modelId: string;
  readonly first: number;
  readonly count: number;
  readonly isSpare: boolean;
}

/** With a column for stages when some node has one. */
export function nodeTable(
  nodes: readonly NodeRow[],
  stages: ReadonlyMap<string, readonly NodeStage[]> = new Map(),
): string {
  const stageColumn = stages.size === 0 ? [] : [{ title: "STAGES", dropOrder: 3 }];
  return table(
    [
      { title: "NODE", dropOrder: 2 },
      { title: "NAME" },
      { title: "STATE" },
      { title: "ENGINE" },
      { title: "LENDS", isRight: true },
      { title: "TOK/S", isRight: true, dropOrder: 1 },
      { title: "REPLICAS", isRight: true },
      { title: "EARNED USD", isRight: true },
      ...stageColumn,
    ],
    nodes.map((node) => [
      node.nodeId,
      node.name,
      node.isYielding ? `${node.state}, yielding` : node.state,
      node.attached === undefined ? node.engineVariant : `${node.engineVariant} + ${node.attached.kind}`,
      formatBytes(lentBytes(node)),
      node.decodeTokPerSecond === null ? "-" : node.decodeTokPerSecond.toFixed(0),
      String(node.replicas),
      usd(node.earnedMicroUsd),
      ...stageColumn.map(() => stages.get(node.nodeId)?.map(stageName).join(", ") ?? "-"),
    ]),
    "no node has joined; `fallow join-code` makes a code for one",
  );
}

/** Of all its devices, under `--max-vram` and without what its owner keeps. */
function lentBytes({ devices, memoryBytes }: NodeRow): number {
  return devices.reduce((sum, device) => sum + (device.lentBytes ?? memoryBytes), 0);
}

function stageName({ modelId, first, count, isSpare }: NodeStage): string {
  return `${modelId} ${count === 1 ? first : `${first}-${first + count - 1}`}${isSpare ? " (spare)" : ""}`;
}

/** What the operator should look at; empty when there is nothing. */
export function warningLines(nodes: readonly NodeRow[]): string {
  const lines = nodes.flatMap(({ name, warnings = [] }) => warnings.map((warning) => `! ${plain(name)}: ${warning}`));
  return lines.length === 0 ? "" : `\n${lines.join("\n")}\n`;
}

export function linkTable(links: readonly LinkRow[]): string {
  return table(
    [
      { title: "FROM" },
      { title: "TO" },
      { title: "ROUND TRIP", isRight: true },
      { title: "BANDWIDTH", isRight: true },
      { title: "LOSS", isRight: true, dropOrder: 1 },
      { title: "BY", dropOrder: 2 },
      { title: "KNOWN AS" },
      { title: "SURE", isRight: true, dropOrder: 3 },
    ],
    links.map((link) => [
      link.fromName,
      link.toName,
      `${link.rttMs.toFixed(1)} ms`,
      `${link.isBandwidthMeasured === false ? "~" : ""}${formatBytes(link.bytesPerSecond)}/s`,
      `${(link.lossShare * 100).toFixed(1)} %`,
      link.carrier ?? "-",
      link.basis,
      `${Math.round(link.confidence * 100)} %`,
    ]),
    "no way between nodes was measured; nodes measure while they fetch from each other",
  );
}

export function weightsTable(weights: readonly WeightsRow[]): string {
  return table(
    [
      { title: "MODEL" },
      { title: "NODE" },
      { title: "STATE" },
      { title: "HAS", isRight: true },
      { title: "UPLOADS", isRight: true, dropOrder: 1 },
      { title: "FROM SOURCE", isRight: true },
    ],
    weights.flatMap((row) =>
      row.nodes.map((node) => [
        row.modelId ?? row.weightsSha256.slice(0, 12),
        node.nodeName,
        node.progress === null ? node.state : `${node.state} ${Math.floor(node.progress * 100)} %`,
        hasText(node),
        `${node.uploads}/${node.uploadsMax}`,
        formatBytes(node.sourceBytes),
      ]),
    ),
    "no node has told which weights it has",
  );
}

/** Of a share of the layers which, not only how much: two halves are a whole, or the same half twice. */
function hasText({ share, layers }: WeightsRow["nodes"][number]): string {
  const percent = `${Math.floor(share * 100)} %`;
  if (share >= 1 || layers.length === 0 || layers.length > LAYER_RUNS_SHOWN_MAX) return percent;
  const runs = layers.map(([first, count]) => (count === 1 ? `${first}` : `${first}-${first + count - 1}`));
  return `layers ${runs.join(", ")}, ${percent}`;
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
