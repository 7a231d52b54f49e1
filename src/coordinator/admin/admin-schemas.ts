/**
 * What the operator's API answers and takes. The routes build these shapes, `fallow` and the status page read them. Times are
 * milliseconds since the Unix epoch, money is micro-USD, sizes are bytes.
 */
import { z } from "zod";
import { ID_PATTERNS } from "../../domain/ids.ts";
import { KEY_SCOPES } from "../../ports/store.ts";
import { keyPreferencesSchema } from "../../wire/openai/preferences.ts";
import { planSummarySchema } from "./plan-schema.ts";
import { weightsRowSchema } from "./weights-schema.ts";

/** Lists are newest first or sorted by id, and no longer than this. */
export const ADMIN_LIST_MAX = 1_000;

const amount = z.number().int();
const count = z.number().int().min(0);

export const replicaRowSchema = z.object({
  replicaId: z.string(),
  modelId: z.string().nullable(),
  nodeId: z.string(),
  nodeName: z.string(),
  state: z.string(),
  progress: z.number(),
  slots: count,
  slotsBusy: count,
  queued: count,
  contextTokens: count,
  memoryBytes: count,
  failure: z.string().nullable(),
});
export type ReplicaRow = z.infer<typeof replicaRowSchema>;

export const nodeRowSchema = z.object({
  nodeId: z.string(),
  name: z.string(),
  state: z.string(),
  isYielding: z.boolean(),
  rttMs: z.number().nullable(),
  joinedAtMs: z.number(),
  silentMs: z.number(),
  platform: z.string(),
  cpuModel: z.string(),
  cpuCores: count,
  memoryBytes: count,
  engineVariant: z.string(),
  engineVersion: z.string(),
  devices: z.array(
    z.object({
      ...{ deviceId: z.string(), name: z.string(), memoryBytes: count, memoryFreeBytes: count },
      /** What plans may use of it: the owner's limit and reserve are taken off. */
      lentBytes: count.optional(),
    }),
  ),
  decodeTokPerSecond: z.number().nullable(),
  earnedMicroUsd: amount,
  replicas: count,
  /** What the operator should look at, as sentences. */
  warnings: z.array(z.string()).optional(),
  /** A server of its owner's that serves as an engine; absent: none. */
  attached: z
    .object({ kind: z.string(), version: z.string(), isExact: z.boolean(), models: z.array(z.string()) })
    .optional(),
});
export type NodeRow = z.infer<typeof nodeRowSchema>;

export const requestRowSchema = z.object({
  requestId: z.string(),
  receiptId: z.string(),
  modelId: z.string(),
  tier: z.string(),
  promptTokens: count,
  outputTokens: count,
  costMicroUsd: amount,
  createdAtMs: z.number(),
  nodeIds: z.array(z.string()),
  attempts: count,
});
export type RequestRow = z.infer<typeof requestRowSchema>;

export const accountRowSchema = z.object({
  accountId: z.string(),
  availableMicroUsd: amount,
  debitsPendingMicroUsd: amount,
  debitsPostedMicroUsd: amount,
  creditsPendingMicroUsd: amount,
  creditsPostedMicroUsd: amount,
});
export type AccountRow = z.infer<typeof accountRowSchema>;

export const transferRowSchema = z.object({
  transferId: z.string(),
  kind: z.string(),
  debitAccountId: z.string(),
  creditAccountId: z.string(),
  amountMicroUsd: amount,
  requestId: z.string().nullable(),
  reason: z.string(),
  atMs: z.number(),
});
export type TransferRow = z.infer<typeof transferRowSchema>;

export const ledgerCheckSchema = z.object({
  isBalanced: z.boolean(),
  accounts: count,
  openHolds: count,
  problems: z.array(z.string()),
});
export type LedgerCheck = z.infer<typeof ledgerCheckSchema>;

export const modelRowSchema = z.object({
  modelId: z.string(),
  name: z.string(),
  architecture: z.string(),
  quantisation: z.string(),
  parameterCount: count,
  layerCount: count,
  vocabSize: count,
  contextTokensMax: count,
  fileBytes: count,
  weightsSha256: z.string(),
  hasChatTemplate: z.boolean(),
  inputMicroUsdPerMtok: count,
  outputMicroUsdPerMtok: count,
  warmReplicas: count,
  addedAtMs: z.number(),
  licence: z.string().nullable(),
  /** Reference from which its files can be fetched again; null when the operator gave them. */
  source: z.string().nullable(),
  /** The model that drafts for it in a chain; null: none does. */
  draftModelId: z.string().nullable().default(null),
  replicasReady: count,
});
export type ModelRow = z.infer<typeof modelRowSchema>;

export const keyRowSchema = z.object({
  keyId: z.string(),
  name: z.string(),
  secretHint: z.string(),
  tenantId: z.string(),
  scopes: z.array(z.enum(KEY_SCOPES)),
  requestsPerMinuteMax: count.nullable(),
  tokensPerMinuteMax: count.nullable(),
  budgetMicroUsd: amount.nullable(),
  monthlyBudgetMicroUsd: amount.nullable(),
  preferences: keyPreferencesSchema.nullable(),
  spentMicroUsd: amount,
  models: z.array(z.string()).nullable(),
  createdAtMs: z.number(),
  expiresAtMs: z.number().nullable(),
  revokedAtMs: z.number().nullable(),
});
export type KeyRow = z.infer<typeof keyRowSchema>;

export const joinCodeRowSchema = z.object({
  usesMax: count,
  usesLeft: count,
  createdAtMs: z.number(),
  expiresAtMs: z.number(),
});

export const statusSchema = z.object({
  gridId: z.string(),
  publicKeyHex: z.string(),
  version: z.string(),
  startedAtMs: z.number(),
  nowMs: z.number(),
  nodes: z.array(nodeRowSchema),
  replicas: z.array(replicaRowSchema),
  models: z.array(modelRowSchema),
  /** Null before the first placement plan. */
  plan: planSummarySchema.optional(),
  /** Where each model's weights are. */
  weights: z.array(weightsRowSchema).optional(),
  requests: z.object({ inFlight: count, queued: count, settled: count, recent: z.array(requestRowSchema) }),
  ledger: z.object({
    chargedMicroUsd: amount,
    heldMicroUsd: amount,
    availableMicroUsd: amount,
    nodesMicroUsd: amount,
    platformMicroUsd: amount,
  }),
});
export type GridStatus = z.infer<typeof statusSchema>;

export const nodeListSchema = z.object({ nodes: z.array(nodeRowSchema) });
export const replicaListSchema = z.object({ replicas: z.array(replicaRowSchema) });
export const requestListSchema = z.object({ requests: z.array(requestRowSchema) });
export const modelListSchema = z.object({ models: z.array(modelRowSchema) });
export const modelAnswerSchema = z.object({ model: modelRowSchema });
export const keyListSchema = z.object({ keys: z.array(keyRowSchema) });
export const keyAnswerSchema = z.object({ key: keyRowSchema });
export const keyCreatedSchema = z.object({ key: keyRowSchema, secret: z.string() });
export const joinCodeListSchema = z.object({ joinCodes: z.array(joinCodeRowSchema) });
export const joinCodeCreatedSchema = z.object({ joinCode: z.string(), expiresAtMs: z.number(), usesMax: count });
export const accountListSchema = z.object({ accounts: z.array(accountRowSchema) });
export const transferListSchema = z.object({ transfers: z.array(transferRowSchema) });
export const doneSchema = z.object({ ok: z.literal(true) });

// ---------------------------------------------------------------- what the routes take

export const createKeySchema = z.strictObject({
  name: z.string().min(1).max(128),
  scopes: z.array(z.enum(KEY_SCOPES)).min(1).max(KEY_SCOPES.length).optional(),
  requestsPerMinuteMax: z.number().int().min(1).optional(),
  tokensPerMinuteMax: z.number().int().min(1).optional(),
  budgetMicroUsd: z.number().int().min(1).max(Number.MAX_SAFE_INTEGER).optional(),
  monthlyBudgetMicroUsd: z.number().int().min(1).max(Number.MAX_SAFE_INTEGER).optional(),
  models: z.array(z.string().regex(ID_PATTERNS.model)).min(1).max(100).optional(),
  preferences: keyPreferencesSchema.optional(),
  /** Whose key it is; absent: of the tenant that asks. */
  tenantId: z.string().regex(ID_PATTERNS.tenant).optional(),
  /** A century is as good as for ever, and the time of expiry stays a safe integer. */
  expiresInMs: z
    .number()
    .int()
    .min(1)
    .max(100 * 365 * 86_400_000)
    .optional(),
});
export type CreateKey = z.infer<typeof createKeySchema>;

/** A join code is for hours and few machines unless the operator says otherwise; a year is the most. */
export const createJoinCodeSchema = z.strictObject({
  usesMax: z.number().int().min(1).max(10_000).optional(),
  ttlMs: z
    .number()
    .int()
    .min(1_000)
    .max(365 * 86_400_000)
    .optional(),
});
export type CreateJoinCode = z.infer<typeof createJoinCodeSchema>;

export const creditSchema = z.strictObject({
  /** At most 1,000,000 USD at once, so that a slip of the hand stays small. */
  amountMicroUsd: z.number().int().min(1).max(1e12),
  tenantId: z.string().regex(ID_PATTERNS.tenant).optional(),
  /** The same reference credits once, however often it is sent. */
  reference: z
    .string()
    .regex(/^[A-Za-z0-9_.-]{1,64}$/)
    .optional(),
});
export type Credit = z.infer<typeof creditSchema>;
