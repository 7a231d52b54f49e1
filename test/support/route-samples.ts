/** Questions about where a request runs, with everything that a test does not care about filled in. */
import { modelId } from "../../src/domain/ids.ts";
import type { TokenPrice } from "../../src/domain/money.ts";
import { NO_PREFERENCES, type RoutePreferences } from "../../src/domain/preferences.ts";
import { refuse } from "../../src/domain/refusal.ts";
import type { ServiceTier } from "../../src/domain/tier.ts";
import type { CloudFacts, GridFacts, RequestNeeds, RouteQuestion } from "../../src/scheduler/tiers/route-question.ts";

export const price = (input: number, output: number): TokenPrice => ({
  inputMicroUsdPerMtok: input,
  outputMicroUsdPerMtok: output,
});
export const REQUEST: RequestNeeds = {
  promptTokens: 1_000,
  promptTokensLikely: 1_000,
  outputTokensMax: 500,
  isOutputAsked: true,
  choices: 1,
  kind: "chat",
  hasTools: false,
  hasJson: false,
  hasLogprobs: false,
  hasTokenIds: false,
};
export const GRID: GridFacts = {
  price: price(100_000, 200_000),
  quantisation: "q8_0",
  contextTokensMax: 8_192,
  outlook: { refusal: null, waitMs: 0, firstTokenMs: 100, readyReplicas: 1, regions: ["eu"] },
  tokPerSecond: null,
};
export const BUSY = refuse("queue-full", "1024 requests wait", { retryAfterMs: 4_000 }).reason;

interface CloudDraw {
  readonly id?: string;
  readonly spec?: Partial<CloudFacts["spec"]>;
  readonly model?: Partial<CloudFacts["model"]>;
  readonly health?: Partial<CloudFacts["health"]>;
}

export function cloud({ id = "acme", spec = {}, model = {}, health = {} }: CloudDraw = {}): CloudFacts {
  const abilities = {
    streams: true,
    reportsUsage: true,
    tools: true,
    jsonSchema: true,
    logprobs: true,
    seed: true,
    rawPrompt: true,
    continuesAssistant: true,
    probedAtMs: 1,
  };
  return {
    spec: {
      providerId: id,
      name: id,
      baseUrl: "https://api.example.com/v1",
      credential: null,
      regions: ["eu"],
      dataPolicy: { collectsData: false, isZeroRetention: true },
      requestsPerMinuteMax: null,
      tokensPerMinuteMax: null,
      concurrencyMax: 8,
      models: [],
      isEnabled: true,
      addedAtMs: 1,
      ...spec,
    },
    model: {
      modelId: modelId("m"),
      upstreamModel: "m",
      cost: price(1, 1),
      price: price(500_000, 900_000),
      contextTokensMax: 32_768,
      outputTokensMax: null,
      quantisation: "fp8",
      abilities,
      ...model,
    },
    health: {
      breaker: "closed",
      opensAgainAtMs: null,
      lastFailure: null,
      hasCredential: true,
      freeSlots: 8,
      retryAfterMs: 0,
      firstTokenMsP50: 300,
      tokPerSecondP50: 50,
      ...health,
    },
  };
}

export interface Asked {
  readonly tier?: ServiceTier;
  readonly preferences?: Partial<RoutePreferences>;
  readonly request?: Partial<RequestNeeds>;
  readonly grid?: GridFacts | null;
  readonly clouds?: readonly CloudFacts[];
}

export function asked({
  tier = "priority",
  preferences = {},
  request = {},
  grid = GRID,
  clouds = [cloud()],
}: Asked): RouteQuestion {
  return {
    modelId: modelId("m"),
    tier,
    preferences: { ...NO_PREFERENCES, ...preferences },
    request: { ...REQUEST, ...request },
    grid,
    clouds,
    nowMs: 1_000_000,
  };
}
