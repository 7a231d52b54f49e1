/** What the coordinator tells of its chains, as far as tests and benches ask. */
import { z } from "zod";

export const CHAINS_PATH = "/admin/v1/chains";

const ms = z.number().nullable();
/** Empty while the stage is lost. */
const holder = z
  .string()
  .nullable()
  .transform((id) => id ?? "");
export const chainStageSchema = z.looseObject({
  replicaId: holder,
  nodeId: holder,
  first: z.number(),
  count: z.number(),
  /** To the next stage; of the last stage to the first. */
  nextRttMs: ms,
  singleMs: ms,
});
export const chainRowSchema = z.looseObject({
  chainId: z.string(),
  modelId: z.string(),
  state: z.string(),
  chainEpoch: z.number(),
  /** In order. */
  stages: z.array(chainStageSchema),
});
export const chainListSchema = z.object({ chains: z.array(chainRowSchema) });
export type ChainRow = Readonly<z.infer<typeof chainRowSchema>>;
export type ChainStageRow = Readonly<z.infer<typeof chainStageSchema>>;

export type ChainPlace = "first" | "middle" | "last";
export const CHAIN_PLACES: readonly ChainPlace[] = ["first", "middle", "last"];

export function stageAt({ stages }: ChainRow, place: ChainPlace): ChainStageRow {
  const at = { first: 0, middle: Math.floor(stages.length / 2), last: stages.length - 1 }[place];
  const stage = stages[at];
  if (stage === undefined) throw new Error(`the chain has no ${place} stage`);
  return stage;
}

/** The serving chain of a model, when it has just so many stages. */
export function servingChain(
  chains: readonly ChainRow[],
  { modelId, stages }: { readonly modelId: string; readonly stages: number },
): ChainRow | null {
  return (
    chains.find((row) => row.modelId === modelId && row.state === "serving" && row.stages.length === stages) ?? null
  );
}
