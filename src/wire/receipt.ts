/** Schemas of statements and receipts: what a node signs, what a tenant gets, what anyone checks offline. */
import { z } from "zod";
import { ATTEMPT_ENDINGS } from "../domain/attempt.ts";
import { CHAIN_STAGES_MAX } from "../domain/chain.ts";
import { attemptId, ID_PATTERNS, leaseId, modelId, nodeId, receiptId, requestId, sha256Hex } from "../domain/ids.ts";
import { microUsd } from "../domain/money.ts";
import { PROVIDER_ID_PATTERN } from "../domain/provider.ts";
import type { NodeStatement, ReceiptBody, SignedReceipt } from "../domain/receipt.ts";
import { no, type Outcome, ok } from "../domain/refusal.ts";
import { SERVICE_TIERS } from "../domain/tier.ts";

/** Bounds on a receipt that comes from outside. */
export const RECEIPT_BOUNDS = {
  /** OpenAI's own limit of `n`, and every embedding request has one. */
  choicesMax: 128,
  /** Choices times the attempts that dispatch allows for each. */
  attemptsMax: 1_024,
  /** Six for each choice (scheduler/tiers). */
  cloudPartsMax: 768,
  /** A log of 2^48 leaves. */
  pathHashesMax: 48,
  /** A signed note with a few signatures. */
  checkpointCharsMax: 4_096,
  /** A receipt with the most attempts is below 1.5 MB, and below 4 MB when each of them ran on the longest chain. */
  receiptCharsMax: 4_000_000,
  statementCharsMax: 8_192,
} as const;

const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const hex = (bytes: number) => z.string().regex(new RegExp(`^[0-9a-f]{${bytes * 2}}$`));
const digest = z.string().regex(ID_PATTERNS.sha256).transform(sha256Hex);
/** Half of a surrogate pair is no text: it has no canonical JSON, so nothing that holds one can be signed or checked. */
const WHOLE_CHARACTERS = /^\P{Surrogate}*$/u;
const shortText = z.string().min(1).max(64).regex(WHOLE_CHARACTERS);
/** 10^9 is 1,000 USD per million tokens: the bound of domain/money.ts. */
const price = z.number().int().min(0).max(1_000_000_000);
const tier = z.enum(SERVICE_TIERS);

export const nodeStatementSchema: z.ZodType<NodeStatement> = z.strictObject({
  v: z.literal(1),
  kind: z.literal("fallow-attempt"),
  gridId: shortText,
  leaseId: z.string().regex(ID_PATTERNS.lease).transform(leaseId),
  epoch: count,
  attemptId: z.string().regex(ID_PATTERNS.attempt).transform(attemptId),
  requestId: z.string().regex(ID_PATTERNS.request).transform(requestId),
  nodeId: z.string().regex(ID_PATTERNS.node).transform(nodeId),
  requestSha256: digest,
  weightsSha256: digest,
  tier,
  inputMicroUsdPerMtok: price,
  outputMicroUsdPerMtok: price,
  promptTokens: count,
  cachedTokens: count,
  outputTokens: count,
  outputSha256: digest,
  numericClass: z.string().max(256).regex(WHOLE_CHARACTERS),
  startedAtMs: count,
  endedAtMs: count,
  energyMilliJoule: count.nullable(),
  energyMethod: shortText.nullable(),
  reason: z.enum(["stop-token", "stop-string", "length", "grammar-end", "cancelled", "embedded"]),
});

const attemptSchema = z.strictObject({
  attemptId: z.string().regex(ID_PATTERNS.attempt).transform(attemptId),
  leaseId: z.string().regex(ID_PATTERNS.lease).transform(leaseId),
  epoch: count,
  choice: count,
  nodeId: z.string().regex(ID_PATTERNS.node).transform(nodeId),
  nodePublicKey: hex(32),
  acknowledgedTokens: count,
  ending: z.enum(ATTEMPT_ENDINGS),
  statement: nodeStatementSchema.nullable(),
  nodeSignature: hex(64).nullable(),
  stages: z
    .array(z.strictObject({ nodeId: z.string().regex(ID_PATTERNS.node).transform(nodeId), layers: count.min(1) }))
    .min(2)
    .max(CHAIN_STAGES_MAX)
    .optional(),
});

const cloudPartSchema = z.strictObject({
  providerId: z.string().regex(PROVIDER_ID_PATTERN),
  choice: count,
  promptTokens: count,
  outputTokens: count,
  outputSha256: digest,
  price: z.strictObject({ inputMicroUsdPerMtok: price, outputMicroUsdPerMtok: price }),
  countedBy: z.enum(["vocabulary", "upstream", "estimate"]),
});

const choiceSchema = z.strictObject({
  outputTokens: count,
  outputSha256: digest,
  finishReason: z.enum(["stop", "length", "tool_calls", "cancelled", "error"]),
});

export const receiptBodySchema: z.ZodType<ReceiptBody> = z.strictObject({
  v: z.literal(1),
  kind: z.literal("fallow-receipt"),
  gridId: shortText,
  receiptId: z.string().regex(ID_PATTERNS.receipt).transform(receiptId),
  requestId: z.string().regex(ID_PATTERNS.request).transform(requestId),
  requestSha256: digest,
  modelId: z.string().regex(ID_PATTERNS.model).transform(modelId),
  weightsSha256: digest,
  tier,
  seedSha256: digest,
  promptTokens: count,
  choices: z.array(choiceSchema).max(RECEIPT_BOUNDS.choicesMax),
  price: z.strictObject({ inputMicroUsdPerMtok: price, outputMicroUsdPerMtok: price }),
  costMicroUsd: count.transform(microUsd),
  createdAtMs: count,
  attempts: z.array(attemptSchema).max(RECEIPT_BOUNDS.attemptsMax),
  cloudParts: z.array(cloudPartSchema).min(1).max(RECEIPT_BOUNDS.cloudPartsMax).optional(),
});

export const signedReceiptSchema: z.ZodType<SignedReceipt> = z.strictObject({
  body: receiptBodySchema,
  coordinatorPublicKey: hex(32),
  coordinatorSignature: hex(64),
  inclusion: z.strictObject({
    leafIndex: count,
    treeSize: count,
    path: z.array(hex(32)).max(RECEIPT_BOUNDS.pathHashesMax),
    rootHash: hex(32),
    checkpoint: z.string().max(RECEIPT_BOUNDS.checkpointCharsMax),
  }),
});

/** A receipt from outside, or what is wrong with it, one line for each field. */
export function parseSignedReceipt(value: unknown): Outcome<SignedReceipt, readonly string[]> {
  const parsed = signedReceiptSchema.safeParse(value);
  if (parsed.success) return ok(parsed.data);
  return no(parsed.error.issues.map((issue) => `${issue.path.join(".") || "receipt"}: ${issue.message}`));
}

/** A node's statement as it came over the link. */
export function parseNodeStatement(json: string): Outcome<NodeStatement, readonly string[]> {
  if (json.length > RECEIPT_BOUNDS.statementCharsMax) {
    return no([`the statement has ${json.length} characters, at most ${RECEIPT_BOUNDS.statementCharsMax}`]);
  }
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    return no(["the statement is not JSON"]);
  }
  const parsed = nodeStatementSchema.safeParse(value);
  if (parsed.success) return ok(parsed.data);
  return no(parsed.error.issues.map((issue) => `${issue.path.join(".") || "statement"}: ${issue.message}`));
}
