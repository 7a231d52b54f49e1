/** Other APIs are served as chats: a refusal that names a parameter of the chat is told with the name that the caller knows. */
import type { Refusal } from "../../../domain/refusal.ts";

export interface ParamName {
  /** A parameter of the chat, from its beginning. */
  readonly chat: RegExp;
  /** As `String.replace` takes it. */
  readonly own: string;
}

export function withOwnNames(reason: Refusal, names: readonly ParamName[]): Refusal {
  const { param } = reason;
  if (param === null) return reason;
  const name = names.find(({ chat }) => chat.test(param));
  if (name === undefined) return reason;
  const own = param.replace(name.chat, name.own);
  return { ...reason, param: own, message: reason.message.replaceAll(`'${param}'`, `'${own}'`) };
}
