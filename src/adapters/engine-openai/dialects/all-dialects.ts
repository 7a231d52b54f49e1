/** Every kind, in the order in which a server of unknown kind is asked: those that only one kind answers come first. */
import type { AttachedKind } from "../../../domain/attached-engine.ts";
import type { Dialect } from "../dialect.ts";
import { LLAMA_SERVER } from "./llama-server.ts";
import { OLLAMA } from "./ollama.ts";
import { LM_STUDIO } from "./openai-text.ts";
import { SGLANG } from "./sglang.ts";
import { TGI } from "./tgi.ts";
import { VLLM } from "./vllm.ts";

export const DIALECTS: readonly Dialect[] = [LLAMA_SERVER, OLLAMA, SGLANG, VLLM, LM_STUDIO, TGI];

const BY_KIND = {
  vllm: VLLM,
  sglang: SGLANG,
  "llama-server": LLAMA_SERVER,
  ollama: OLLAMA,
  lmstudio: LM_STUDIO,
  tgi: TGI,
} as const satisfies Readonly<Record<AttachedKind, Dialect>>;

export function dialectOf(kind: AttachedKind): Dialect {
  return BY_KIND[kind];
}
