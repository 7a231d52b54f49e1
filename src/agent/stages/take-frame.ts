/**
 * What a neighbour's frame is, by the side from which it comes and the place of the stage; everything else is out of place.
 *
 * | from     | frame       | at the first stage | in the middle | at the last stage |
 * | -------- | ----------- | ------------------ | ------------- | ----------------- |
 * | previous | tokens      | drawn by the last  | -             | -                 |
 * | previous | activations | -                  | to compute    | to compute        |
 * | previous | release     | -                  | ends          | ends              |
 * | next     | credit, gap | of what was sent   | of what was sent | -              |
 */
import type { StageEngineInfo } from "../../ports/stage-engine.ts";
import type { StageFrame } from "../../wire/stage-frames.ts";
import type { Side } from "./chain-links.ts";
import { drawnProblem } from "./drawn-tokens.ts";

import type { SequenceTable } from "./sequence-table.ts";
import type { HeadDesk } from "./stage-roles.ts";
import type { WireProblem } from "./stage-wire.ts";

type FrameOf<Kind extends StageFrame["type"]> = Extract<StageFrame, { type: Kind }>;

export interface FrameTakers {
  readonly isFirst: boolean;
  readonly isLast: boolean;
  readonly sequences: SequenceTable;
  /** Null when the engine is gone. */
  readonly engineInfo: StageEngineInfo | null;
  readonly head: HeadDesk | null;
  activations(frame: FrameOf<"activations">): WireProblem | null;
  release(frame: FrameOf<"release">): WireProblem | null;
  credit(frame: FrameOf<"credit">): WireProblem | null;
  gap(frame: FrameOf<"gap">): WireProblem | null;
}

export function takeFrame(frame: StageFrame, side: Side, takers: FrameTakers): WireProblem | null {
  const { isFirst, isLast } = takers;
  if (side === "previous" && isFirst && frame.type === "tokens") return takeTokens(frame, takers);
  if (side === "previous" && !isFirst && frame.type === "activations") return takers.activations(frame);
  if (side === "previous" && !isFirst && frame.type === "release") return takers.release(frame);
  if (side === "next" && !isLast && frame.type === "credit") return takers.credit(frame);
  if (side === "next" && !isLast && frame.type === "gap") return takers.gap(frame);
  return { code: "frame-unexpected", message: `a ${frame.type} frame from the ${side} stage` };
}

function takeTokens({ entries }: FrameOf<"tokens">, takers: FrameTakers): WireProblem | null {
  const { engineInfo, head, sequences } = takers;
  const problem = engineInfo === null ? null : drawnProblem(entries, engineInfo);
  if (problem !== null) return problem;
  for (const { leaseEpoch, ...entry } of entries) {
    const state = sequences.get(entry.sequence);
    if (state?.isOpen === true && state.leaseEpoch === leaseEpoch) head?.onTokens(entry);
  }
  return null;
}
