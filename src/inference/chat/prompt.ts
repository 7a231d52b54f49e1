/**
 * From a conversation to a prompt, with the model's own template. Templates disagree on details, so the conversation is put
 * into the shape that most of them read: tool arguments as objects, `developer` as `system` where the template does not know
 * it, a tool's answer with the name of its function, and tools explained in a system message where the template has no place
 * for them.
 */
import { no, type Outcome, ok } from "../../domain/refusal.ts";
import { isRecord } from "./call-object.ts";
import { ContentGuard, type PromptPart, type SpecialTexts } from "./content-guard.ts";
import type { ChatToolCall, ChatTurn, ToolSpec } from "./conversation.ts";
import type { ChatTemplate } from "./template.ts";
import { HERMES, type ToolSupport } from "./tool-format.ts";

export interface PromptRequest {
  readonly turns: readonly ChatTurn[];
  /** Empty when the request has none, or chose `none`. */
  readonly tools: readonly ToolSpec[];
  readonly variables: Readonly<Record<string, unknown>>;
  readonly wallMs: number;
}

export interface PromptModel {
  readonly template: ChatTemplate;
  readonly tools: ToolSupport;
  readonly specials: SpecialTexts;
  readonly bosToken: string;
  readonly eosToken: string;
}

export interface Prompt {
  readonly text: string;
  readonly parts: readonly PromptPart[];
}

export function renderPrompt(model: PromptModel, request: PromptRequest): Outcome<Prompt> {
  const explained = model.tools.isNative ? request.turns : explainTools(request.turns, request.tools);
  const first = renderTurns(model, request, explained);
  if (first.ok || !explained.some((turn) => turn.role === "system" || turn.role === "developer")) return first;
  // Some templates refuse system messages; what they said then belongs in front of the first question.
  const second = renderTurns(model, request, systemIntoUser(explained));
  return second.ok ? second : first;
}

function renderTurns(model: PromptModel, request: PromptRequest, turns: readonly ChatTurn[]): Outcome<Prompt> {
  const tools = model.tools.isNative && request.tools.length > 0 ? request.tools.map(toolValue) : null;
  const callNames = new Map<string, string>();
  const messages = turns.map((turn) => {
    for (const { id, name } of turn.toolCalls) callNames.set(id, name);
    return messageValue(turn, { model, callNames });
  });
  const guard = new ContentGuard(model.specials, [...stringsOf([messages, tools]), model.template.source]);
  const guarded = guardValue(guard, { messages, tools });
  if (!guarded.ok) return guarded;
  const { messages: guardedMessages, tools: guardedTools } = guarded.value;
  const rendered = model.template.render({
    messages: guardedMessages,
    tools: guardedTools,
    bosToken: model.bosToken,
    eosToken: model.eosToken,
    wallMs: request.wallMs,
    variables: request.variables,
  });
  if (!rendered.ok) return no(rendered.reason);
  return ok({ text: rendered.value, parts: guard.split(rendered.value) });
}

function toolValue(tool: ToolSpec): Readonly<Record<string, unknown>> {
  const parameters = tool.parameters ?? { type: "object", properties: {} };
  const description = tool.description ?? "";
  return { type: "function", function: { name: tool.name, description, parameters } };
}

function messageValue(
  turn: ChatTurn,
  context: { model: PromptModel; callNames: ReadonlyMap<string, string> },
): Readonly<Record<string, unknown>> {
  const { source } = context.model.template;
  const knowsDeveloper = source.includes("developer");
  const message: Record<string, unknown> = {
    role: turn.role === "developer" && !knowsDeveloper ? "system" : turn.role,
    content: turn.text,
  };
  if (turn.name !== null) message["name"] = turn.name;
  if (turn.reasoning !== null) message["reasoning_content"] = turn.reasoning;
  const idOf = source.includes("length != 9") ? nineCharacters : (id: string) => id;
  if (turn.toolCalls.length > 0) {
    message["tool_calls"] = turn.toolCalls.map((call) => ({
      id: idOf(call.id),
      type: "function",
      function: { name: call.name, arguments: argumentsValue(call) },
    }));
  }
  if (turn.role === "tool") {
    if (turn.toolCallId !== null) message["tool_call_id"] = idOf(turn.toolCallId);
    message["name"] = turn.name ?? context.callNames.get(turn.toolCallId ?? "") ?? "tool";
  }
  return message;
}

/** Mistral's templates take ids of exactly nine letters and digits. */
function nineCharacters(id: string): string {
  return id
    .replace(/[^A-Za-z0-9]/g, "")
    .slice(-9)
    .padStart(9, "0");
}

function argumentsValue(call: ChatToolCall): unknown {
  try {
    const value: unknown = JSON.parse(call.argumentsText);
    return isRecord(value) ? value : call.argumentsText;
  } catch {
    return call.argumentsText; // a model wrote it, and templates print strings too
  }
}

/** For templates without tools: the Hermes format in words, and earlier calls and answers as text. */
function explainTools(turns: readonly ChatTurn[], tools: readonly ToolSpec[]): readonly ChatTurn[] {
  const plain = turns.map((turn): ChatTurn => {
    if (turn.role === "tool") {
      return { ...EMPTY_TURN, role: "user", text: `<tool_response>\n${turn.text}\n</tool_response>` };
    }
    if (turn.toolCalls.length === 0) return turn;
    const { before, between, after } = HERMES.written;
    const calls = turn.toolCalls.map((call) => `${before}${call.name}${between}${call.argumentsText}${after}`);
    return { ...turn, toolCalls: [], text: [turn.text, ...calls].filter((text) => text !== "").join("\n") };
  });
  if (tools.length === 0) return plain;
  const explanation = [
    "You may call functions. Their signatures, as JSON, one a line:",
    ...tools.map((tool) => JSON.stringify(toolValue(tool)["function"])),
    "To call one, answer with nothing but its name and arguments as JSON:",
    '<tool_call>\n{"name": "…", "arguments": {…}}\n</tool_call>',
  ].join("\n");
  const [first, ...rest] = plain;
  if (first !== undefined && (first.role === "system" || first.role === "developer")) {
    return [{ ...first, text: `${first.text}\n\n${explanation}` }, ...rest];
  }
  return [{ ...EMPTY_TURN, role: "system", text: explanation }, ...plain];
}

const EMPTY_TURN = { text: "", name: null, toolCalls: [], toolCallId: null, reasoning: null } as const;

function systemIntoUser(turns: readonly ChatTurn[]): readonly ChatTurn[] {
  const isSystem = (turn: ChatTurn) => turn.role === "system" || turn.role === "developer";
  const said = turns.filter(isSystem).map((turn) => turn.text);
  const others = turns.filter((turn) => !isSystem(turn));
  const first = others.findIndex((turn) => turn.role === "user");
  if (first === -1) return [{ ...EMPTY_TURN, role: "user", text: said.join("\n\n") }, ...others];
  return others.map((turn, index) => (index === first ? { ...turn, text: [...said, turn.text].join("\n\n") } : turn));
}

function stringsOf(value: unknown): readonly string[] {
  if (typeof value === "string") return [value];
  if (Array.isArray(value)) return value.flatMap(stringsOf);
  if (isRecord(value)) return Object.entries(value).flatMap(([key, item]) => [key, ...stringsOf(item)]);
  return [];
}

interface Guarded {
  readonly messages: readonly unknown[];
  readonly tools: readonly unknown[] | null;
}

/** Roles and types are ours; every other string, keys included, may be the caller's. */
function guardValue(guard: ContentGuard, value: Guarded): Outcome<Guarded> {
  let refused: Extract<Outcome<string>, { ok: false }> | null = null;
  const walk = (item: unknown): unknown => {
    if (typeof item === "string") {
      const guarded = guard.guard(item);
      if (guarded.ok) return guarded.value;
      refused ??= guarded;
      return "";
    }
    if (Array.isArray(item)) return item.map(walk);
    if (isRecord(item)) {
      return Object.fromEntries(
        Object.entries(item).map(([key, child]) => [walk(key), key === "role" ? child : walk(child)]),
      );
    }
    return item;
  };
  const messages = value.messages.map(walk);
  const tools = value.tools?.map(walk) ?? null;
  return refused ?? ok({ messages, tools });
}
