/**
 * Ids of items carry the id of the response that they belong to, so that a reference to one is found without an index: `msg_<ULID>_o2` is
 * the third item of the output of `resp_<ULID>`, `msg_<ULID>_i0` the first of its input.
 */
import { ID_PATTERNS, type RequestId, type ResponseId, responseId } from "../../../domain/ids.ts";

const PREFIXES = { message: "msg", function_call: "fc", function_call_output: "fco", reasoning: "rs" } as const;
export type ItemKind = keyof typeof PREFIXES;

const ITEM_ID = /^[a-z]+_([0-9A-Z]{26})_([io])(\d{1,5})$/;

export function responseIdOf(request: RequestId): ResponseId {
  return responseId(`resp_${request.slice("req_".length)}`);
}

export function itemId(
  response: ResponseId,
  place: { kind: ItemKind; side: "input" | "output"; index: number },
): string {
  const ulid = response.slice("resp_".length);
  return `${PREFIXES[place.kind]}_${ulid}_${place.side === "input" ? "i" : "o"}${place.index}`;
}

export interface ItemPlace {
  readonly responseId: ResponseId;
  readonly side: "input" | "output";
  readonly index: number;
}

/** Null when it is no id of ours. */
export function placeOfItem(id: string): ItemPlace | null {
  const [, ulid, side, index] = ITEM_ID.exec(id) ?? [];
  const response = `resp_${ulid ?? ""}`;
  if (!ID_PATTERNS.response.test(response)) return null;
  return { responseId: responseId(response), side: side === "i" ? "input" : "output", index: Number(index) };
}
