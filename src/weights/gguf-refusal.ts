/** Why a GGUF file is not taken. The message names the field, its value, and what would be right. */
export const GGUF_REFUSAL_CODES = [
  "not-gguf",
  "unsupported-version",
  "truncated",
  "too-large",
  "malformed",
  "duplicate",
  "bad-tensor",
  "missing-metadata",
  "bad-metadata",
  "unknown-architecture",
  "bad-vocabulary",
  "split-missing",
  "split-doubled",
  "split-order",
  "split-foreign",
  // The file may be whole and right, but it cannot be cut into stages.
  "stage-refused",
] as const;
export type GgufRefusalCode = (typeof GGUF_REFUSAL_CODES)[number];

export interface GgufRefusal {
  readonly code: GgufRefusalCode;
  readonly message: string;
}

/**
 * Carries a refusal up from deep inside a parser to the one function that answers with it. It never leaves this room:
 * outside, a refusal is a value.
 */
export class GgufProblem extends Error {
  override readonly name = "GgufProblem";
  readonly refusal: GgufRefusal;
  constructor(code: GgufRefusalCode, message: string) {
    super(message);
    this.refusal = { code, message };
  }
}
