/** Bounds of one request, where OpenAI's own are not stated or are larger than a grid of small machines should take. */
export const OPENAI_BOUNDS = {
  /** More turns than any context holds. */
  messagesMax: 4_096,
  partsPerMessageMax: 1_024,
  toolsMax: 128,
  toolCallsPerMessageMax: 128,
  toolNameCharsMax: 64,
  descriptionCharsMax: 16_384,
  /** Each choice is a sequence of its own on an engine. */
  choicesMax: 8,
  /** Equal to the engine's. */
  stopStringsMax: 16,
  stopStringCharsMax: 256,
  logitBiasMax: 300,
  topLogprobsMax: 20,
  /** `/v1/completions` has its own limit. */
  completionLogprobsMax: 5,
  /** Candidates that the sampler looks at. */
  topKMax: 64,
  tokensMax: 1_048_576,
  metadataEntriesMax: 16,
  metadataKeyCharsMax: 64,
  metadataValueCharsMax: 512,
  identifierCharsMax: 512,
  /** Prompts of one `/v1/completions` request. */
  promptsMax: 16,
  /** As OpenAI. */
  embeddingInputsMax: 2_048,
  promptTokensMax: 1_048_576,
} as const;
