/** What the coordinator tells of its chains, as far as tests and benches ask. */
import type { ChainRow, ChainStageRow } from "../../src/coordinator/admin/chain-schema.ts";

export const CHAINS_PATH = "/admin/v1/chains";

export type ChainPlace = "first" | "middle" | "last";
export const CHAIN_PLACES: readonly ChainPlace[] = ["first", "middle", "last"];

/** A stage that somebody holds. */
export type HeldStage = ChainStageRow & { readonly nodeId: string; readonly replicaId: string };
export interface ServingChain extends Omit<ChainRow, "stages"> {
  readonly stages: readonly HeldStage[];
}

export function stageAt({ stages }: ServingChain, place: ChainPlace): HeldStage {
  const at = { first: 0, middle: Math.floor(stages.length / 2), last: stages.length - 1 }[place];
  const stage = stages[at];
  if (stage === undefined) throw new Error(`the chain has no ${place} stage`);
  return stage;
}

/** The serving chain of a model, when it has just so many stages, in another epoch than `after` where that is given. */
export function servingChain(
  chains: readonly ChainRow[],
  want: {
    readonly modelId: string;
    readonly stages: number;
    readonly after?: Pick<ChainRow, "chainId" | "chainEpoch">;
  },
): ServingChain | null {
  const { modelId, stages, after } = want;
  for (const row of chains) {
    if (row.modelId !== modelId || row.state !== "serving" || row.stages.length !== stages) continue;
    if (row.chainId === after?.chainId && row.chainEpoch === after.chainEpoch) continue;
    const held = row.stages.flatMap((stage): HeldStage[] => {
      const { nodeId, replicaId } = stage;
      return nodeId === null || replicaId === null ? [] : [{ ...stage, nodeId, replicaId }];
    });
    if (held.length === stages) return { ...row, stages: held };
  }
  return null;
}
