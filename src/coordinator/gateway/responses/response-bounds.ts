/** What is kept of `/v1/responses`, for how long, and how much of it. */
export const RESPONSE_BOUNDS = {
  /** As OpenAI: 30 days. */
  keptMs: 30 * 86_400_000,
  /** Of a tenant: some thousand conversations of a dozen turns. Beyond it the oldest go. */
  tenantResponsesMax: 20_000,
  /** Of a tenant, inputs and answers together. */
  tenantCharsMax: 512 * 1024 * 1024,
  /** Of one response, its input and its answer; what is larger is answered and not kept. */
  responseCharsMax: 4 * 1024 * 1024,
  /** Answers that one may go on from, one behind the other: more turns than a context holds. */
  chainResponsesMax: 512,
  /** Of such a line in all: as large as a body may be. */
  chainCharsMax: 10 * 1024 * 1024,
  /** Each is a look-up. */
  referencesMax: 256,
  /** Removed in one transaction. */
  sweepMax: 500,
} as const;
