/** What `usage.grid.parts` tells of an answer that did not come from the grid alone: who generated how much of it. */
import { GRID_PROVIDER } from "../../../domain/preferences.ts";
import type { CloudPart } from "../../../domain/receipt.ts";
import type { UsageGrid } from "../../../wire/openai/responses.ts";

/** Null where the grid made all of it. The grid's tokens come as one part, first. */
export function partsOfUsage(used: {
  readonly promptTokens: number;
  readonly outputTokens: number;
  readonly cloudParts: readonly CloudPart[];
}): UsageGrid | null {
  const { cloudParts } = used;
  if (cloudParts.length === 0) return null;
  const inCloud = (tokensOf: (part: CloudPart) => number) => cloudParts.reduce((sum, part) => sum + tokensOf(part), 0);
  const onGrid = {
    provider: GRID_PROVIDER,
    prompt_tokens: used.promptTokens - inCloud((part) => part.promptTokens),
    completion_tokens: used.outputTokens - inCloud((part) => part.outputTokens),
  };
  const elsewhere = cloudParts.map(({ providerId, promptTokens, outputTokens }) => ({
    provider: providerId,
    prompt_tokens: promptTokens,
    completion_tokens: outputTokens,
  }));
  return { parts: onGrid.completion_tokens === 0 ? elsewhere : [onGrid, ...elsewhere] };
}
