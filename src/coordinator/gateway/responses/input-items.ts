/** A request's input as items with ids: what is kept, listed, and named by references. */
import type { ResponseId } from "../../../domain/ids.ts";
import type { InputItem, SpokenItem, StoredItem } from "../../../wire/openai/response-items.ts";
import { itemId } from "./item-ids.ts";

export function itemsOfInput(input: string | readonly InputItem[] | null | undefined): readonly InputItem[] {
  if (input === null || input === undefined) return [];
  if (typeof input !== "string") return input;
  return [{ role: "user", content: [{ type: "input_text", text: input }] }];
}

/** In full form, each with an id of this response. */
export function keptItems(response: ResponseId, items: readonly StoredItem[]): readonly StoredItem[] {
  return items.map((item, index) => kept(response, { item, index }));
}

function kept(response: ResponseId, { item, index }: { item: StoredItem; index: number }): StoredItem {
  const idOf = (kind: Parameters<typeof itemId>[1]["kind"]) => itemId(response, { kind, side: "input", index });
  switch (item.type) {
    case "function_call": {
      const { call_id, name, arguments: text } = item;
      return { id: idOf("function_call"), type: "function_call", status: "completed", call_id, name, arguments: text };
    }
    case "function_call_output": {
      const { call_id, output } = item;
      const id = idOf("function_call_output");
      return { id, type: "function_call_output", status: "completed", call_id, output };
    }
    case "reasoning":
      return { id: idOf("reasoning"), type: "reasoning", summary: item.summary, content: item.content ?? [] };
    default:
      return spoken(idOf("message"), item);
  }
}

function spoken(id: string, item: SpokenItem): StoredItem {
  const fields = { id, type: "message", status: "completed" } as const;
  if (item.role !== "assistant") {
    const { role, content } = item;
    return {
      ...fields,
      role,
      content: typeof content === "string" ? [{ type: "input_text", text: content }] : content,
    };
  }
  const parts =
    typeof item.content === "string" ? [{ type: "output_text" as const, text: item.content }] : item.content;
  const content = parts.map((part) =>
    part.type === "refusal" ? part : { type: "output_text" as const, text: part.text, annotations: [], logprobs: [] },
  );
  return { ...fields, role: "assistant", content };
}
