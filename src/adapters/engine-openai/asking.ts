/** Questions that several kinds of servers answer in one way. */
import { z } from "zod";
import { ASK_MS_MAX, type Dialect } from "./dialect.ts";
import { tokenIds } from "./reading.ts";

/** A server of another kind has no such path, which is an answer too. */
export function unlessUnreachable(fault: unknown): null {
  const code = fault instanceof Error && "code" in fault ? fault.code : null;
  if (code === "attached-refused" || code === "attached-malformed" || code === "attached-broken") return null;
  throw fault;
}

/** As vLLM and SGLang answer it; null where the server has no such route. */
export const tokenizePlain: Dialect["tokenize"] = async ({ server, servedAs, text, signal }) => {
  const body = { model: servedAs, prompt: text, add_special_tokens: false };
  const answer = await server.post("/tokenize", body, { signal, withinMs: ASK_MS_MAX }).catch(unlessUnreachable);
  const told = z.looseObject({ tokens: tokenIds }).safeParse(answer);
  return told.success ? told.data.tokens : null;
};
