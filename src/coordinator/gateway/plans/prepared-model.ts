/**
 * What the gateway keeps of a model beside its vocabulary: the compiled template, the family of its tool calls, and the texts
 * of tokens. Made once per open vocabulary.
 */
import type { ModelManifest } from "../../../domain/model.ts";
import { no, type Outcome, ok } from "../../../domain/refusal.ts";
import { SpecialTexts } from "../../../inference/chat/content-guard.ts";
import type { PromptModel } from "../../../inference/chat/prompt.ts";
import { isReasoningTemplate } from "../../../inference/chat/reasoning-splitter.ts";
import { ChatTemplate } from "../../../inference/chat/template.ts";
import { markersOf, toolSupportOf } from "../../../inference/chat/tool-format.ts";
import { pieceText } from "../../../inference/detokenise.ts";
import type { Tokenizer } from "../../../ports/tokenizer.ts";
import type { ServedModel } from "../gateway-options.ts";

export interface PreparedModel {
  readonly manifest: ModelManifest;
  readonly tokenizer: Tokenizer;
  readonly vocabulary: Vocabulary;
  /** Why the model cannot chat, or what chats need. */
  readonly chat: Outcome<PreparedChat, string>;
}

export interface PreparedChat {
  readonly prompt: PromptModel;
  readonly isReasoning: boolean;
  /** Control tokens whose text the parsers of answers must see. */
  readonly markers: ReadonlyMap<number, Uint8Array>;
}

/** Token pieces, each fetched once. */
export class Vocabulary {
  readonly #tokenizer: Tokenizer;
  readonly #pieces: (Uint8Array | undefined)[] = [];
  readonly #texts: (string | undefined)[] = [];
  readonly stopTokenIds: ReadonlySet<number>;

  constructor(tokenizer: Tokenizer) {
    this.#tokenizer = tokenizer;
    this.stopTokenIds = new Set(tokenizer.stopTokenIds);
  }

  bytes(tokenId: number): Uint8Array {
    const known = this.#pieces[tokenId];
    if (known !== undefined) return known;
    const piece = this.#tokenizer.piece(tokenId);
    this.#pieces[tokenId] = piece;
    return piece;
  }

  /** Of the token alone: half a character shows as U+FFFD. */
  text(tokenId: number): string {
    const known = this.#texts[tokenId];
    if (known !== undefined) return known;
    const text = pieceText(this.bytes(tokenId));
    this.#texts[tokenId] = text;
    return text;
  }
}

export class PreparedModels {
  readonly #prepared = new WeakMap<Tokenizer, Promise<PreparedModel>>();

  prepare(model: ServedModel): Promise<PreparedModel> {
    const known = this.#prepared.get(model.tokenizer);
    if (known !== undefined) return known;
    const made = prepareModel(model);
    this.#prepared.set(model.tokenizer, made);
    // A vocabulary process that died in the middle is started again: the next request prepares anew.
    made.catch(() => this.#prepared.delete(model.tokenizer));
    return made;
  }
}

async function prepareModel({ manifest, tokenizer }: ServedModel): Promise<PreparedModel> {
  const vocabulary = new Vocabulary(tokenizer);
  return { manifest, tokenizer, vocabulary, chat: await prepareChat(manifest, tokenizer) };
}

async function prepareChat(manifest: ModelManifest, tokenizer: Tokenizer): Promise<Outcome<PreparedChat, string>> {
  if (manifest.chatTemplate === null) return no("its file has no chat template");
  const template = ChatTemplate.compile(manifest.chatTemplate);
  if (!template.ok) return template;
  const tools = toolSupportOf(manifest.chatTemplate);
  const isReasoning = isReasoningTemplate(manifest.chatTemplate);
  const texts = [...markersOf(tools.format), ...(isReasoning ? ["<think>", "</think>"] : [])];
  return ok({
    prompt: {
      template: template.value,
      tools,
      specials: new SpecialTexts(tokenizer.specialTexts),
      bosToken: tokenizer.bosToken?.text ?? "",
      eosToken: tokenizer.eosToken?.text ?? "",
    },
    isReasoning,
    markers: await controlMarkers(tokenizer, texts),
  });
}

async function controlMarkers(
  tokenizer: Tokenizer,
  texts: readonly string[],
): Promise<ReadonlyMap<number, Uint8Array>> {
  const markers = new Map<number, Uint8Array>();
  for (const text of texts) {
    if (!tokenizer.specialTexts.includes(text)) continue;
    const ids = await tokenizer.tokenize([{ text, special: true }], { addBos: false });
    const [only] = ids;
    if (ids.length === 1 && only !== undefined) markers.set(only, new TextEncoder().encode(text));
  }
  return markers;
}
