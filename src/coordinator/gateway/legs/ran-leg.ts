/** One leg of a choice, as far as it has run. */
import type { Generation } from "../../../domain/generation.ts";
import type { CloudFinish, CloudRun, CloudUsage } from "../../../ports/cloud.ts";
import type { RouteCandidate } from "../../../scheduler/tiers/route-question.ts";
import type { CloudPiece } from "./leg-events.ts";
import type { WholeCharacters } from "./whole-characters.ts";

export type GridCandidate = Extract<RouteCandidate, { kind: "grid" }>;
export type CloudCandidate = Extract<RouteCandidate, { kind: "cloud" }>;

export interface GridLeg {
  readonly kind: "grid";
  readonly candidate: GridCandidate;
  readonly characters: WholeCharacters;
  /** Shown to the answer, in order. */
  readonly tokenIds: number[];
  /** It lost a node. */
  hasWaited: boolean;
  generation: Generation | null;
}

export interface CloudLeg {
  readonly kind: "cloud";
  readonly candidate: CloudCandidate;
  /** The provider parses calls and reasoning itself. */
  readonly isParsed: boolean;
  /** Of all pieces of the choice: the number of those before this leg. */
  readonly piecesBefore: number;
  readonly pieces: CloudPiece[];
  run: CloudRun | null;
  finish: CloudFinish | null;
  usage: CloudUsage | null;
  hasEnded: boolean;
}

export type RanLeg = GridLeg | CloudLeg;

/** As text that is counted: what was shown of it, whatever kind it is. */
export function textOfPiece(piece: CloudPiece): string {
  if (piece.kind === "text") return piece.text;
  return piece.delta.kind === "tool-call" ? piece.delta.name : piece.delta.text;
}

export function isCallPiece(piece: CloudPiece): boolean {
  return piece.kind === "delta" && (piece.delta.kind === "tool-call" || piece.delta.kind === "tool-arguments");
}
