/** `GET /v1/responses/{id}/input_items`: a page of what was sent, newest first unless asked otherwise. */
import { type Outcome, ok, refuse } from "../../../domain/refusal.ts";
import type { StoredResponse } from "../../../ports/response-store.ts";
import type { StoredItem } from "../../../wire/openai/response-items.ts";
import { inputOf } from "./response-history.ts";

const LIMIT_MAX = 100;
const LIMIT_DEFAULT = 20;

export interface InputPage {
  readonly object: "list";
  readonly data: readonly StoredItem[];
  readonly first_id: string | null;
  readonly last_id: string | null;
  readonly has_more: boolean;
}

export function listInput(stored: StoredResponse, query: (name: string) => string | null): Outcome<InputPage> {
  const limit = Number(query("limit") ?? LIMIT_DEFAULT);
  if (!Number.isSafeInteger(limit) || limit < 1 || limit > LIMIT_MAX) {
    return refuse("invalid-request", `'limit' is a whole number from 1 to ${LIMIT_MAX}`, { param: "limit" });
  }
  const order = query("order") ?? "desc";
  if (order !== "asc" && order !== "desc") {
    return refuse("invalid-request", `'order' is ${JSON.stringify(order.slice(0, 20))}; asc or desc is taken`, {
      param: "order",
    });
  }
  const items = order === "asc" ? inputOf(stored) : inputOf(stored).toReversed();
  const after = query("after");
  const from = after === null ? 0 : items.findIndex((item) => item.id === after) + 1;
  if (after !== null && from === 0) {
    const message = `${JSON.stringify(after.slice(0, 64))} is no input item of ${stored.responseId}`;
    return refuse("invalid-request", message, { param: "after" });
  }
  const data = items.slice(from, from + limit);
  return ok({
    object: "list",
    data,
    first_id: data[0]?.id ?? null,
    last_id: data.at(-1)?.id ?? null,
    has_more: from + limit < items.length,
  });
}
