/**
 * A choice may be made by several resources one after the other: its **legs**. What an answer sees of them is one stream: token ids of the
 * grid, and pieces of a cloud provider, in the order in which they belong to the answer. An answer that only the grid may make has
 * no legs: dispatch itself is its source.
 */
import type { Generation, GenerationEvent, GenerationRequest } from "../../../domain/generation.ts";
import type { TokenPrice } from "../../../domain/money.ts";
import type { OutputDelta } from "../../../inference/chat/conversation.ts";
import type { CloudUsage } from "../../../ports/cloud.ts";

/** What a provider sent, in one step. */
export type CloudPiece =
  /** The model's own text: goes the way that tokens go, through stop strings and the parser of answers. */
  | { readonly kind: "text"; readonly text: string }
  /** Parsed by the provider: shown as it is. */
  | { readonly kind: "delta"; readonly delta: OutputDelta };

export type AnswerEvent =
  | GenerationEvent
  /** A provider's part begins. */
  | { readonly kind: "cloud"; readonly providerId: string }
  | { readonly kind: "piece"; readonly piece: CloudPiece };

/** What an answer needs of whoever makes its choices; dispatch is one. */
export interface AnswerSource {
  generate(request: GenerationRequest, onEvent: (event: AnswerEvent) => void): AnswerGeneration;
}

export interface AnswerGeneration extends Generation {
  /** After `finish`: what providers made of the first `pieces` pieces. Absent: the grid made all of it. */
  cloudParts?(pieces: number): readonly UsedCloudPart[];
}

/** A provider's part of a choice, as it was taken. */
export interface UsedCloudPart {
  readonly providerId: string;
  readonly choice: number;
  readonly price: TokenPrice;
  /** What the provider charges us. */
  readonly cost: TokenPrice;
  /** It is the first of the whole request: the prompt is charged here. */
  readonly isFirst: boolean;
  /** Everything that was taken of it: thoughts, text, names and arguments of calls. */
  readonly text: string;
  readonly hasCalls: boolean;
  /** It ended by itself, so that an end token was generated too. */
  readonly hasEnded: boolean;
  /** Null when it did not end, or said nothing of it. */
  readonly usage: CloudUsage | null;
}
