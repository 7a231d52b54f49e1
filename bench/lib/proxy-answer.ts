/** What the bench's provider says, so that who asks can tell whether all of it came. */

export const ANSWER_PROMPT_TOKENS = 24;

/** Some four characters, as a token of English has. */
export function tokenText(at: number): string {
  return `${(at * 7919).toString(36).padStart(3, "a").slice(-3)} `;
}

export function answerText(tokens: number): string {
  return Array.from({ length: tokens }, (_, at) => tokenText(at)).join("");
}
