/** What a request of `/v1/responses` builds on: the answers before it, and items that it names instead of sending. */
import { z } from "zod";
import { FallowError } from "../../../domain/fault.ts";
import { ID_PATTERNS, type ResponseId, responseId, type TenantId } from "../../../domain/ids.ts";
import { type Outcome, ok, refuse } from "../../../domain/refusal.ts";
import type { ResponseStore, StoredResponse } from "../../../ports/response-store.ts";
import {
  type InputItem,
  type ReferenceItem,
  type StoredItem,
  storedItemSchema,
} from "../../../wire/openai/response-items.ts";
import { type ResponseObject, responseSchema } from "../../../wire/openai/response-object.ts";
import { placeOfItem } from "./item-ids.ts";
import { RESPONSE_BOUNDS } from "./response-bounds.ts";

export interface HistoryReader {
  readonly store: ResponseStore;
  readonly tenantId: TenantId;
  readonly nowMs: number;
}

const storedItemsSchema = z.array(storedItemSchema);

/** Items of all answers before this one, oldest first. */
export async function itemsBefore(reader: HistoryReader, previous: string): Promise<Outcome<readonly StoredItem[]>> {
  const param = "previous_response_id";
  const asked = ID_PATTERNS.response.test(previous) ? responseId(previous) : null;
  const { store, tenantId, nowMs } = reader;
  const { chainResponsesMax, chainCharsMax } = RESPONSE_BOUNDS;
  const chain =
    asked === null
      ? []
      : await store.chain(
          { tenantId, responseId: asked },
          { nowMs, responsesMax: chainResponsesMax, charsMax: chainCharsMax },
        );
  const oldest = chain.at(-1);
  if (oldest === undefined) return unknown(previous);
  const chars = chain.reduce((sum, one) => sum + one.inputJson.length + one.bodyJson.length, 0);
  if (chars > chainCharsMax || (oldest.previousId !== null && chain.length >= chainResponsesMax)) {
    const message = `the answers before this one are more than ${chainResponsesMax}, or than ${chainCharsMax} characters; send what matters of them as input`;
    return refuse("invalid-request", message, { param });
  }
  if (oldest.previousId !== null) return unknown(oldest.previousId);
  const items: StoredItem[] = [];
  for (const stored of chain.toReversed()) items.push(...inputOf(stored), ...outputOf(stored));
  return ok(items);
}

function unknown(id: string) {
  const shown = JSON.stringify(id.slice(0, 64));
  const days = RESPONSE_BOUNDS.keptMs / 86_400_000;
  const message = `previous response ${shown} is not kept here: answers are for ${days} days, unless they were made with store: false or deleted`;
  return refuse("invalid-request", message, { param: "previous_response_id" });
}

/** The items with those in place of which only an id was sent. */
export async function withReferences(
  reader: HistoryReader,
  items: readonly InputItem[],
): Promise<Outcome<readonly StoredItem[]>> {
  const references = items.filter(isReference);
  if (references.length > RESPONSE_BOUNDS.referencesMax) {
    const message = `input has ${references.length} item references; at most ${RESPONSE_BOUNDS.referencesMax} are taken`;
    return refuse("invalid-request", message, { param: "input" });
  }
  const shelf = new Shelf(reader);
  const whole: StoredItem[] = [];
  for (const [index, item] of items.entries()) {
    if (!isReference(item)) {
      whole.push(item);
      continue;
    }
    const found = await shelf.find(item.id);
    if (found !== null) whole.push(found);
    else return refuse("invalid-request", shelf.whyNot(item.id), { param: `input[${index}].id` });
  }
  return ok(whole);
}

function isReference(item: InputItem): item is ReferenceItem {
  return item.type === "item_reference" || !("role" in item || "call_id" in item || "summary" in item);
}

/** Items of kept answers, each answer read and parsed once, and no more of them than a body may hold. */
class Shelf {
  readonly #reader: HistoryReader;
  readonly #items = new Map<ResponseId, ReadonlyMap<string, StoredItem>>();
  #chars = 0;

  constructor(reader: HistoryReader) {
    this.#reader = reader;
  }

  async find(id: string): Promise<StoredItem | null> {
    const place = placeOfItem(id);
    if (place === null || this.#isFull) return null;
    const known = this.#items.get(place.responseId) ?? (await this.#read(place.responseId));
    return this.#isFull ? null : (known.get(id) ?? null);
  }

  /** Of an id that was not found. */
  whyNot(id: string): string {
    const { chainCharsMax } = RESPONSE_BOUNDS;
    if (this.#isFull)
      return `the answers that items are taken from have more than ${chainCharsMax} characters; send the items`;
    return `there is no item ${JSON.stringify(id.slice(0, 64))} of an answer that is kept here; send the item itself`;
  }

  get #isFull(): boolean {
    return this.#chars > RESPONSE_BOUNDS.chainCharsMax;
  }

  async #read(responseId: ResponseId): Promise<ReadonlyMap<string, StoredItem>> {
    const { store, tenantId, nowMs } = this.#reader;
    const stored = await store.get({ tenantId, responseId }, nowMs);
    this.#chars += stored === null ? 0 : stored.inputJson.length + stored.bodyJson.length;
    const items = stored === null || this.#isFull ? [] : [...inputOf(stored), ...outputOf(stored)];
    const byId = new Map(items.flatMap((item) => (typeof item.id === "string" ? [[item.id, item]] : [])));
    this.#items.set(responseId, byId);
    return byId;
  }
}

export function inputOf(stored: StoredResponse): readonly StoredItem[] {
  return parsed(stored, stored.inputJson, storedItemsSchema);
}

export function outputOf(stored: StoredResponse): readonly StoredItem[] {
  return bodyOf(stored).output;
}

export function bodyOf(stored: StoredResponse): ResponseObject {
  return parsed(stored, stored.bodyJson, responseSchema);
}

/** Written by this program, and still parsed: a database outlives the code. */
function parsed<T>(stored: StoredResponse, json: string, schema: z.ZodType<T>): T {
  const result = schema.safeParse(JSON.parse(json));
  if (result.success) return result.data;
  throw new FallowError("store-corrupt", `${stored.responseId} does not have the form that this program writes`, {
    cause: result.error,
  });
}
