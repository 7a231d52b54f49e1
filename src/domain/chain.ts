/**
 * A chain: one replica of a model whose layers lie as stages on several nodes, in the order in which hidden states pass through them. The first
 * stage takes token ids, the last one samples. A whole model is a chain of one stage and needs none of this.
 *
 * | state    | all stages are ready | all are linked in this epoch | a stage is lost, hangs, yields | a new stage is ordered | unload |
 * | -------- | -------------------- | ---------------------------- | ------------------------------ | ---------------------- | ------ |
 * | loading  | linking, epoch + 1   | bug                          | broken                         | -                      | gone   |
 * | linking  | -                    | serving                      | broken                         | -                      | gone   |
 * | serving  | -                    | -                            | broken                         | serving, until it is ready | gone |
 * | broken   | linking, epoch + 1   | ignored: old epoch           | broken                         | loading                | gone   |
 *
 * Each change of who is in the chain is a new epoch; frames of older epochs are dropped wherever they arrive, so a stage that comes back disturbs
 * nobody. Attempts on a chain whose epoch changes end and begin anew under a new lease, on the same chain as soon as it serves: every stage keeps the
 * keys and values of the sequences it held under the sequence's own name, so only what was lost is computed again.
 */
import { assert } from "./assert.ts";
import { toHex } from "./hex.ts";
import type { NodeId, ReplicaId, RequestId } from "./ids.ts";
import type { Sha256 } from "./merkle-tree.ts";
import type { LayerShare } from "./weights.ts";

/** How hidden states travel: two bytes for each element, or four, which gives the unsplit model's logits bit by bit. */
export const WIRE_FORMATS = ["f16", "f32"] as const;
export type WireFormat = (typeof WIRE_FORMATS)[number];

export type ChainState = "loading" | "linking" | "serving" | "broken";

/** Longest chain: more hops than this are never worth their round trips. */
export const CHAIN_STAGES_MAX = 32;

/** One node's part of a chain. */
export interface ChainStage {
  /** Of the stage itself: the node knows it by this name. */
  readonly replicaId: ReplicaId;
  readonly nodeId: NodeId;
  readonly first: number;
  readonly count: number;
}

/** 16 hex digits: names one choice of one request over all its attempts (`sequenceIdOf`), so that stages find what they hold of it. */
export type SequenceId = string & { readonly sequenceId: unique symbol };

export const SEQUENCE_ID_PATTERN = /^[0-9a-f]{16}$/;

export function sequenceId(text: string): SequenceId {
  assert(SEQUENCE_ID_PATTERN.test(text), `${text} is the name of a sequence: 16 hex digits`);
  return text as SequenceId;
}

/** The first 16 hex digits of the SHA-256 of `${requestId}\n${choice}`. A request's id is ASCII. */
export function sequenceIdOf(
  { requestId, choice }: { readonly requestId: RequestId; readonly choice: number },
  sha256: Sha256,
): SequenceId {
  const name = `${requestId}\n${choice}`;
  const bytes = Uint8Array.from({ length: name.length }, (_, index) => name.charCodeAt(index));
  return toHex(sha256(bytes)).slice(0, 16) as SequenceId;
}

/** The share of a stage at its place in a model. */
export function shareOfStage(
  { first, count }: { readonly first: number; readonly count: number },
  layerCount: number,
): LayerShare {
  return { first, count, hasEmbedding: first === 0, hasOutput: first + count === layerCount };
}
