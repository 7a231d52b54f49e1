/**
 * `fallow status --pipeline`: each chain drawn from its first stage to its last, with the time of each stage and of each way, and what it lacks. One
 * picture for wide terminals and pipes, a narrower one with a line for the node and a line for what it does.
 */
import {
  type ChainList,
  type ChainRow,
  type ChainStageRow,
  chainListSchema,
} from "../../coordinator/admin/chain-schema.ts";
import { type GridPlan, gridPlanSchema } from "../../coordinator/admin/plan-schema.ts";
import { counted, formatDuration, plain } from "../format.ts";
import { connectGrid, type GlobalOptions } from "../grid-client.ts";
import { printJson, printText } from "../terminal.ts";

const CHAIN_ID_SHOWN = 8;
const ID_END_SHOWN = 6;

export async function showPipeline(options: GlobalOptions): Promise<void> {
  const grid = connectGrid(options);
  const list = await grid.json("/admin/v1/chains", chainListSchema);
  if (options.json === true) return printJson(list);
  const plan = await grid.json("/admin/v1/plan", gridPlanSchema);
  printText(pipelineText(list, process.stdout.isTTY === true ? process.stdout.columns : null, plan));
}

/** `width` is that of the terminal; null for a file or a pipe. */
export function pipelineText(list: ChainList, width: number | null, plan: GridPlan = { plan: null }): string {
  const { chains, spares, stats } = list;
  const nowhere = nowhereLines(list, plan);
  if (chains.length === 0) {
    const why = "each one that is wanted fits on a node";
    return `${[`no model is split over nodes${nowhere.length === 0 ? `: ${why}` : ""}`, ...nowhere].map(plain).join("\n")}\n`;
  }
  const drawn = chains.map((told) => {
    const ofModel = spares.filter(({ modelId }) => modelId === told.modelId);
    const { chain, own } = labelled(told, ofModel);
    const spare = own.map(({ nodeName, state, ...layers }) => `  spare: ${layersOf(layers)} on ${nodeName}, ${state}`);
    const wide = chainLines(chain, true);
    const isWide = width === null || wide.every((line) => line.length <= width);
    return [...(isWide ? wide : chainLines(chain, false)), ...missingLines(chain), ...spare];
  });
  const { repairs, repairsBySpare, moves, troubles } = stats;
  const since = `since the start: ${counted(repairs, "repair")} (${repairsBySpare} by a spare), ${counted(moves, "move")}, ${counted(troubles, "trouble")} told`;
  const last = nowhere.length === 0 ? [[since]] : [[...nowhere], [since]];
  return `${[...drawn, ...last].map((lines) => lines.map(plain).join("\n")).join("\n\n")}\n`;
}

/** Models that are wanted and have no place, whole or in stages. */
function nowhereLines({ chains }: ChainList, { plan }: GridPlan): readonly string[] {
  const models = plan?.models ?? [];
  return models
    .filter(({ replicaCount, warmReplicas, demandTokPerSecond }) => {
      return replicaCount === 0 && (warmReplicas > 0 || demandTokPerSecond > 0);
    })
    .filter(({ modelId }) => chains.every((chain) => chain.modelId !== modelId))
    .map(({ modelId, losers }) => {
      const help = "memory-too-small" in losers ? "; another node, or a higher --max-vram, would help" : "";
      return `  ! ${modelId}: no node and no chain of nodes has room for it (\`fallow plan\` tells more)${help}`;
    });
}

/** Nodes that share a name, as agents of one machine do, with the end of their ids. */
function labelled(told: ChainRow, spares: ChainList["spares"]): { chain: ChainRow; own: ChainList["spares"] } {
  const ids = new Map<string, Set<string>>();
  for (const { nodeName, nodeId } of [...told.stages, ...spares]) {
    if (nodeName !== null && nodeId !== null) ids.set(nodeName, (ids.get(nodeName) ?? new Set()).add(nodeId));
  }
  const label = (name: string, nodeId: string) =>
    (ids.get(name)?.size ?? 0) > 1 ? `${name} ${nodeId.slice(-ID_END_SHOWN)}` : name;
  const stages = told.stages.map((stage) => {
    const { nodeName, nodeId } = stage;
    return { ...stage, nodeName: nodeName === null || nodeId === null ? nodeName : label(nodeName, nodeId) };
  });
  return {
    chain: { ...told, stages },
    own: spares.map((spare) => ({ ...spare, nodeName: label(spare.nodeName, spare.nodeId) })),
  };
}

function chainLines(chain: ChainRow, isWide: boolean): readonly string[] {
  return [...headLines(chain, isWide), ...stageLines(chain, isWide), ...footLines(chain, isWide)];
}

function headLines(chain: ChainRow, isWide: boolean): readonly string[] {
  const what = `${chain.modelId}: ${chain.state}`;
  const how = `${counted(chain.stages.length, "stage")}, ${counted(chain.layerCount, "layer")}, ${chain.wire} between them`;
  const room = `${counted(chain.sequencesMax, "slot")} of ${chain.contextTokens} tokens`;
  const name = `chain ${chain.chainId.slice(0, CHAIN_ID_SHOWN)}, epoch ${chain.chainEpoch}`;
  return isWide ? [`${what} (${name}; ${how}; ${room})`] : [what, `  ${name}`, `  ${how}`, `  ${room}`];
}

function stageLines(chain: ChainRow, isWide: boolean): readonly string[] {
  const nameWidth = Math.max(...chain.stages.map(({ nodeName }) => (nodeName ?? NOBODY).length));
  const layerWidth = Math.max(...chain.stages.map((stage) => layersOf(stage).length));
  const numberWidth = String(chain.stages.length).length;
  return chain.stages.flatMap((stage, at) => {
    const number = String(at + 1).padStart(numberWidth);
    const indent = " ".repeat(numberWidth);
    const name = stage.nodeName ?? NOBODY;
    const next = chain.stages[(at + 1) % chain.stages.length];
    const isLast = at === chain.stages.length - 1;
    const way = `${isLast ? "^" : "|"} ${wayText(stage)}`;
    if (!isWide) {
      return [`  ${number} ${name}`, `  ${indent} ${layersOf(stage)}, ${stageText(stage)}`, `  ${indent} ${way}`];
    }
    const to = isLast ? `back to ${next?.nodeName ?? NOBODY}` : `to ${next?.nodeName ?? NOBODY}`;
    const what = `${layersOf(stage).padEnd(layerWidth)}  ${name.padEnd(nameWidth)}  ${stageText(stage)}`;
    return [`  ${number}  ${what}`, `  ${indent}  ${way} ${to}`];
  });
}

const NOBODY = "(no node)";

function layersOf({ first, count }: Pick<ChainStageRow, "first" | "count">): string {
  return count === 1 ? `layer ${first}` : `layers ${first}-${first + count - 1}`;
}

function stageText({ state, isLinked, singleMs, singlesMean, successor }: ChainStageRow): string {
  const how = state === null ? "lost" : state === "ready" && !isLinked ? "ready, not linked" : state;
  const together = singlesMean !== null && singlesMean > 1 ? ` for ${singlesMean.toFixed(1)} answers at once` : "";
  const time = singleMs === null ? "not measured" : `${milliseconds(singleMs)} a token${together}`;
  const next = successor === null ? "" : `, ${successor.nodeName} takes over (${successor.state})`;
  return `${how}, ${time}${next}`;
}

function wayText({ nextRttMs, nextCarrier }: ChainStageRow): string {
  const time = nextRttMs === null ? "not measured" : `${milliseconds(nextRttMs)} round trip`;
  return nextCarrier === null ? time : `${time}, ${nextCarrier}`;
}

function footLines(chain: ChainRow, isWide: boolean): readonly string[] {
  const { loopMs, loneTokPerSecond, drafted, accepted, repairs, recoveryMs } = chain;
  const speed =
    loopMs === null || loneTokPerSecond === null
      ? ["loop not measured yet"]
      : [`loop ${milliseconds(loopMs)}`, `${loneTokPerSecond.toFixed(1)} tokens/s for one answer without drafts`];
  const drafts = drafted === 0 ? [] : [`${accepted} of ${drafted} drafts came true (${percent(accepted / drafted)})`];
  const mended = repairs === 0 ? [] : [`${counted(repairs, "stage")} replaced`];
  const recovery = recoveryMs === null ? [] : [`served again ${formatDuration(recoveryMs)} after the last break`];
  const facts = [...speed, ...drafts, ...mended, ...recovery];
  return isWide ? [`  ${facts.join("; ")}`] : facts.map((fact) => `  ${fact}`);
}

/** Sentences, of any length: a terminal wraps them. */
function missingLines({ missing, trouble, troubleAgoMs = null }: ChainRow): readonly string[] {
  return [
    ...missing.map((sentence) => `  ! ${sentence}`),
    ...(trouble === null ? [] : [`  ! last trouble${agoText(troubleAgoMs)}: ${trouble}`]),
  ];
}

function agoText(agoMs: number | null): string {
  return agoMs === null ? "" : `, ${formatDuration(agoMs)} ago`;
}

function milliseconds(ms: number): string {
  return `${ms < 10 ? ms.toFixed(2) : ms.toFixed(1)} ms`;
}

function percent(share: number): string {
  return `${Math.round(share * 100)} %`;
}
