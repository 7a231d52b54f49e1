/** Has hot spares loaded and unloaded as the scheduler chooses (scheduler/chains/choose-spares.ts), and knows which stages are spare. */
import { shareOfStage } from "../../domain/chain.ts";
import type { SpareStage } from "../../scheduler/chains/chain-repair.ts";
import {
  chooseSpares,
  type SpareCandidate,
  type SpareChoice,
  type SparedChain,
  spareKey,
} from "../../scheduler/chains/choose-spares.ts";
import { type NodeFact, nodeObstacle } from "../../scheduler/placement/snapshot.ts";
import type { ReplicaBook } from "../dispatch/replica-book.ts";
import { type Chain, stageLoad } from "./chain.ts";
import { roomiest, type StageGrid } from "./repair-question.ts";

export interface SpareQuestion {
  readonly chains: readonly Chain[];
  /** Of each chain. */
  readonly spares: ReadonlyMap<Chain, readonly SpareStage[]>;
  readonly sparesPerChain: number;
  readonly isShort: boolean;
  readonly grid: StageGrid;
  fileBytes(chain: Chain): number | null;
}

/** Has those loaded that are wanted, and those unloaded that are not. */
export function orderSpares(question: SpareQuestion, book: ReplicaBook): void {
  const choice = spareChoice(question);
  for (const replicaId of choice.unload) {
    const stage = book.stage(replicaId);
    if (stage !== null) book.unload(stage.nodeId, replicaId, "a spare that is not needed");
  }
  for (const { chainId, nodeId, deviceId, first, count, memoryBytes } of choice.load) {
    const chain = question.chains.find((one) => one.chainId === chainId);
    if (chain === undefined) continue;
    book.loadStage(stageLoad(chain, { first, count, memoryBytes }, { nodeId, deviceId, why: "spare" }));
  }
}

function spareChoice(question: SpareQuestion): SpareChoice {
  const { grid, isShort, sparesPerChain } = question;
  const chains = question.chains.map((chain) => sparedChain(chain, question));
  const nodes = [...grid.nodes().values()];
  return chooseSpares({
    chains,
    candidates: nodes.map((node) => candidate(node, question)),
    sparesPerChain,
    isShort,
  });
}

function sparedChain(chain: Chain, { grid, spares, fileBytes }: SpareQuestion): SparedChain {
  const perLayer = (fileBytes(chain) ?? 0) / chain.layerCount;
  const stages = chain.places.flatMap(({ holder, first, count, memoryBytes }) => {
    const nodeId = holder === null ? null : (grid.stage(holder)?.nodeId ?? null);
    const node = nodeId === null ? undefined : grid.nodes().get(nodeId);
    if (nodeId === null || node === undefined) return [];
    const known = grid.shareOn(nodeId, chain.weightsSha256, shareOfStage({ first, count }, chain.layerCount));
    const weightsBytes = known?.bytes ?? perLayer * count;
    return [{ nodeId, first, count, memoryBytes, weightsBytes, stayChance: node.stayChance ?? 1 }];
  });
  return { chainId: chain.chainId, modelId: chain.modelId, stages, spares: spares.get(chain) ?? [] };
}

function candidate(node: NodeFact, { chains, grid }: SpareQuestion): SpareCandidate {
  const { nodeId } = node;
  const replicas = grid.replicasOn(nodeId);
  const storedBytes = new Map<string, number>();
  for (const { chainId, weightsSha256, layerCount, places } of chains) {
    for (const place of places) {
      const known = grid.shareOn(nodeId, weightsSha256, shareOfStage(place, layerCount));
      if (known !== null) storedBytes.set(spareKey(chainId, place), known.storedBytes);
    }
  }
  const standing = grid.standing(nodeId);
  const obstacle = node.hasStageServing === true ? nodeObstacle(node) : "serves-no-stages";
  return {
    nodeId,
    obstacle: obstacle ?? (standing === "barred" ? "node-failed-before" : null),
    isDoubted: standing !== "trusted",
    ...roomiest(node, replicas),
    stayChance: node.stayChance ?? 1,
    storedBytes,
    modelIds: new Set(replicas.map(({ modelId }) => modelId)),
  };
}
