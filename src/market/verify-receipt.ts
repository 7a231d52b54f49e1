/**
 * Checking a receipt with nothing but the receipt: offline, by anyone. Each check has a name and says what it found, so that
 * a person sees which part of a bad receipt is bad. What it cannot show alone: that the coordinator's key is the right grid's
 * (give `trustedPublicKeyHex` for that), and that the log has no second history (compare checkpoints for that).
 */

import type { Sha256 } from "../domain/merkle-tree.ts";
import { addUsd } from "../domain/money.ts";
import { nodeIdOf } from "../domain/node-id.ts";
import type {
  CloudPart,
  NodeStatement,
  ReceiptAttempt,
  ReceiptBody,
  ReceiptInclusion,
  SignedReceipt,
} from "../domain/receipt.ts";
import type { Outcome } from "../domain/refusal.ts";
import { canonicalSignedJson } from "./canonical-json.ts";
import { logOrigin, openCheckpoint, type SignatureCheck } from "./checkpoint.ts";
import { fromHex, toHex } from "./hex.ts";
import { cloudCharge, costOf } from "./hold.ts";
import { isIncluded } from "./merkle-log.ts";
import { receiptBytes, receiptLeaf, statementBytes } from "./receipt.ts";

export interface ReceiptCheck {
  /** `schema`, `coordinator-key`, `coordinator-signature`, `attempts`, `stages`, `cloud-parts`, `cost`, `inclusion`, `checkpoint`, or `node-…:` and an attempt's id. */
  readonly name: string;
  readonly isPassed: boolean;
  /** What was found, as a sentence. */
  readonly detail: string;
}

export interface ReceiptVerdict {
  readonly isValid: boolean;
  readonly checks: readonly ReceiptCheck[];
}

export interface ReceiptTools {
  /** `parseSignedReceipt` of wire/receipt.ts. */
  readonly parse: (value: unknown) => Outcome<SignedReceipt, readonly string[]>;
  readonly crypto: SignatureCheck & { sha256: Sha256 };
  /** Key of the grid that should have signed; null or absent: whichever key the receipt names. */
  readonly trustedPublicKeyHex?: string | null;
}

/** `untrusted` is parsed JSON. Never throws on what it says. */
export function verifyReceipt(untrusted: unknown, tools: ReceiptTools): ReceiptVerdict {
  const parsed = tools.parse(untrusted);
  if (!parsed.ok) return verdict([check("schema", false, parsed.reason.slice(0, 10).join("; "))]);
  const receipt = parsed.value;
  const { body } = receipt;
  return verdict([
    check("schema", true, `receipt ${body.receiptId} of request ${body.requestId}`),
    ...keyChecks(receipt, tools.trustedPublicKeyHex ?? null),
    coordinatorSignature(receipt, tools.crypto),
    ...body.attempts.flatMap((attempt) => attemptChecks(attempt, body, tools.crypto)),
    countCheck(body),
    ...stagesCheck(body),
    ...cloudCheck(body),
    costCheck(body),
    inclusionCheck(receipt, tools.crypto),
    checkpointCheck(receipt, tools.crypto),
  ]);
}

function keyChecks(receipt: SignedReceipt, trusted: string | null): readonly ReceiptCheck[] {
  if (trusted === null) return [];
  const isSame = receipt.coordinatorPublicKey === trusted.toLowerCase();
  const named = `the receipt names the key ${receipt.coordinatorPublicKey}`;
  return [check("coordinator-key", isSame, isSame ? named : `${named}, trusted is ${trusted}`)];
}

function coordinatorSignature(receipt: SignedReceipt, crypto: SignatureCheck): ReceiptCheck {
  const isSigned = isSignedBy(crypto, {
    publicKeyHex: receipt.coordinatorPublicKey,
    signatureHex: receipt.coordinatorSignature,
    message: receiptBytes(receipt.body),
  });
  return check(
    "coordinator-signature",
    isSigned,
    isSigned ? "the coordinator signed this body" : "the signature does not fit the body and the named key",
  );
}

function attemptChecks(
  attempt: ReceiptAttempt,
  body: ReceiptBody,
  crypto: ReceiptTools["crypto"],
): readonly ReceiptCheck[] {
  const { attemptId, statement, nodeSignature, nodePublicKey } = attempt;
  if (statement === null || nodeSignature === null) {
    const isBoth = statement === null && nodeSignature === null;
    const detail = isBoth
      ? `no statement (${attempt.ending}): the coordinator's count stands alone`
      : "a statement and its signature come together";
    return [check(`node-signature:${attemptId}`, isBoth, detail)];
  }
  const key = fromHex(nodePublicKey);
  const isOwnKey = key !== null && nodeIdOf(crypto.sha256(key)) === attempt.nodeId;
  const isSigned = isSignedBy(crypto, {
    publicKeyHex: nodePublicKey,
    signatureHex: nodeSignature,
    message: statementBytes(statement),
  });
  const problems = statementProblems(statement, attempt, body);
  return [
    check(
      `node-key:${attemptId}`,
      isOwnKey,
      isOwnKey ? `the key is that of ${attempt.nodeId}` : `${attempt.nodeId} is not the id of the named key`,
    ),
    check(
      `node-signature:${attemptId}`,
      isSigned,
      isSigned
        ? `${attempt.nodeId} signed its statement`
        : "the signature does not fit the statement and the node's key",
    ),
    check(
      `node-statement:${attemptId}`,
      problems.length === 0,
      problems.length === 0 ? "the statement fits the receipt" : problems.join("; "),
    ),
  ];
}

function statementProblems(statement: NodeStatement, attempt: ReceiptAttempt, body: ReceiptBody): readonly string[] {
  const wanted: Partial<NodeStatement> = {
    gridId: body.gridId,
    leaseId: attempt.leaseId,
    epoch: attempt.epoch,
    attemptId: attempt.attemptId,
    requestId: body.requestId,
    nodeId: attempt.nodeId,
    requestSha256: body.requestSha256,
    weightsSha256: body.weightsSha256,
    tier: body.tier,
    inputMicroUsdPerMtok: body.price.inputMicroUsdPerMtok,
    outputMicroUsdPerMtok: body.price.outputMicroUsdPerMtok,
  };
  const said = new Map<string, unknown>(Object.entries(statement));
  const problems = Object.entries(wanted)
    .filter(([name, value]) => said.get(name) !== value)
    .map(
      ([name, value]) => `${name} is ${String(said.get(name))} in the statement and ${String(value)} in the receipt`,
    );
  if (attempt.acknowledgedTokens > statement.outputTokens) {
    problems.push(
      `${attempt.acknowledgedTokens} tokens are acknowledged, the node says it made ${statement.outputTokens}`,
    );
  }
  const choice = body.choices[attempt.choice];
  const isAlone = body.attempts.filter((other) => other.choice === attempt.choice).length === 1;
  const isWhole = isAlone && choice !== undefined && attempt.acknowledgedTokens === statement.outputTokens;
  if (isWhole && choice.outputSha256 !== statement.outputSha256) {
    problems.push(
      `the node's output has the digest ${statement.outputSha256}, the delivered one ${choice.outputSha256}`,
    );
  }
  return problems;
}

/** What was delivered is what attempts were acknowledged for, choice by choice. */
function countCheck(body: ReceiptBody): ReceiptCheck {
  const problems: string[] = [];
  const counted = body.choices.map(() => 0);
  for (const { choice, attemptId, acknowledgedTokens } of body.attempts) {
    const before = counted[choice];
    if (before === undefined)
      problems.push(`attempt ${attemptId} is of choice ${choice}, which the receipt does not have`);
    else counted[choice] = before + acknowledgedTokens;
  }
  const parts = body.cloudParts ?? [];
  for (const { choice, providerId, outputTokens } of parts) {
    const before = counted[choice];
    if (before === undefined)
      problems.push(`a part of ${providerId} is of choice ${choice}, which the receipt does not have`);
    else counted[choice] = before + outputTokens;
  }
  for (const [index, choice] of body.choices.entries()) {
    if (choice.outputTokens !== counted[index]) {
      problems.push(
        `choice ${index} has ${choice.outputTokens} tokens, its attempts${parts.length === 0 ? "" : " and cloud parts"} ${counted[index]}`,
      );
    }
  }
  const total = body.choices.reduce((sum, choice) => sum + choice.outputTokens, 0);
  const isRight = problems.length === 0;
  const elsewhere = parts.length === 0 ? "" : ` and ${parts.length} cloud part${parts.length === 1 ? "" : "s"}`;
  return check(
    "attempts",
    isRight,
    isRight
      ? `${total} tokens in ${body.attempts.length} attempt${body.attempts.length === 1 ? "" : "s"}${elsewhere}`
      : problems.join("; "),
  );
}

/** Only of receipts that tell of chains: each attempt's stages end at the node that signed, no node twice. */
function stagesCheck({ attempts }: ReceiptBody): readonly ReceiptCheck[] {
  const chained = attempts.flatMap(({ attemptId, nodeId, stages }) =>
    stages === undefined ? [] : [{ attemptId, nodeId, nodeIds: stages.map((stage) => stage.nodeId) }],
  );
  if (chained.length === 0) return [];
  const problems = chained.flatMap(({ attemptId, nodeId, nodeIds }) => [
    ...(nodeIds.at(-1) === nodeId ? [] : [`the stages of attempt ${attemptId} do not end at ${nodeId}`]),
    ...(new Set(nodeIds).size === nodeIds.length ? [] : [`a node has two stages of attempt ${attemptId}`]),
  ]);
  const nodes = new Set(chained.flatMap(({ nodeIds }) => nodeIds)).size;
  const found = `${chained.length} attempt${chained.length === 1 ? "" : "s"} ran in stages on ${nodes} nodes`;
  return [check("stages", problems.length === 0, problems.length === 0 ? found : problems.join("; "))];
}

/** Only of receipts that tell of cloud providers: who made how much. No provider signs, so the coordinator's count stands alone. */
function cloudCheck({ cloudParts = [], choices }: ReceiptBody): readonly ReceiptCheck[] {
  if (cloudParts.length === 0) return [];
  const first = cloudParts.filter(({ promptTokens }) => promptTokens > 0);
  const told = cloudParts.map(
    ({ providerId, choice, outputTokens, countedBy }) =>
      `${providerId} made ${outputTokens} tokens${choices.length === 1 ? "" : ` of choice ${choice}`} (counted by ${COUNTED[countedBy]})`,
  );
  const isRight = first.length <= 1;
  return [check("cloud-parts", isRight, isRight ? told.join("; ") : `the prompt is charged in ${first.length} parts`)];
}

const COUNTED: Readonly<Record<CloudPart["countedBy"], string>> = {
  vocabulary: "the grid",
  upstream: "the provider",
  estimate: "the text's length",
};

/** The grid's tokens at the body's price, and each cloud part at its own. */
function costCheck(body: ReceiptBody): ReceiptCheck {
  const parts = body.cloudParts ?? [];
  const outputTokens = body.choices.reduce((sum, choice) => sum + choice.outputTokens, 0);
  const inCloud = {
    prompt: parts.reduce((sum, part) => sum + part.promptTokens, 0),
    output: parts.reduce((sum, part) => sum + part.outputTokens, 0),
  };
  if (!Number.isSafeInteger(outputTokens))
    return check("cost", false, "the receipt counts more tokens than there can be");
  if (inCloud.prompt > body.promptTokens || inCloud.output > outputTokens)
    return check("cost", false, "the cloud parts have more tokens than the receipt");
  const onGrid = costOf({
    promptTokens: body.promptTokens - inCloud.prompt,
    outputTokens: outputTokens - inCloud.output,
    hasFinished: body.attempts.some((attempt) => attempt.ending === "finished"),
    price: body.price,
  });
  const cost = addUsd(onGrid, ...parts.map(cloudCharge));
  const isRight = cost === body.costMicroUsd;
  const terms = `${body.promptTokens} prompt and ${outputTokens} output tokens cost ${cost} micro-USD at ${parts.length === 0 ? "this price" : "these prices"}`;
  return check("cost", isRight, isRight ? terms : `${terms}, the receipt says ${body.costMicroUsd}`);
}

function inclusionCheck(receipt: SignedReceipt, crypto: { sha256: Sha256 }): ReceiptCheck {
  const { inclusion } = receipt;
  const sha256: Sha256 = (data) => crypto.sha256(data);
  const isInTree = isIncluded(
    {
      leafHash: receiptLeaf(canonicalSignedJson(receipt.body), sha256),
      index: inclusion.leafIndex,
      size: inclusion.treeSize,
      path: inclusion.path.map(bytesOf),
      root: bytesOf(inclusion.rootHash),
    },
    sha256,
  );
  const place = `leaf ${inclusion.leafIndex} of the log of ${inclusion.treeSize}`;
  return check(
    "inclusion",
    isInTree,
    isInTree ? `the receipt is ${place}` : `the path does not lead from ${place} to the root`,
  );
}

function checkpointCheck(receipt: SignedReceipt, crypto: ReceiptTools["crypto"]): ReceiptCheck {
  const { inclusion, body } = receipt;
  const head = openCheckpoint(inclusion.checkpoint, bytesOf(receipt.coordinatorPublicKey), crypto);
  if (head === null) return check("checkpoint", false, "the checkpoint is not signed with the coordinator's key");
  const problems = headProblems(
    { origin: head.origin, size: head.size, root: toHex(head.root) },
    inclusion,
    body.gridId,
  );
  if (problems.length > 0) return check("checkpoint", false, problems.join("; "));
  return check("checkpoint", true, `the coordinator signed the head of ${head.origin} at size ${head.size}`);
}

function headProblems(
  head: { origin: string; size: number; root: string },
  inclusion: ReceiptInclusion,
  gridId: string,
): readonly string[] {
  const problems: string[] = [];
  if (head.origin !== logOrigin(gridId))
    problems.push(`the checkpoint is of the log ${head.origin}, not ${logOrigin(gridId)}`);
  if (head.size !== inclusion.treeSize)
    problems.push(`the checkpoint is of size ${head.size}, the path of ${inclusion.treeSize}`);
  if (head.root !== inclusion.rootHash)
    problems.push(`the checkpoint has the root ${head.root}, the path ${inclusion.rootHash}`);
  return problems;
}

function isSignedBy(
  crypto: SignatureCheck,
  claim: { publicKeyHex: string; signatureHex: string; message: Uint8Array },
): boolean {
  return crypto.verify({
    publicKey: bytesOf(claim.publicKeyHex),
    message: claim.message,
    signature: bytesOf(claim.signatureHex),
  });
}

/** Empty for what is no hex: then no signature fits and no path leads anywhere. */
function bytesOf(hex: string): Uint8Array {
  return fromHex(hex) ?? new Uint8Array(0);
}

function check(name: string, isPassed: boolean, detail: string): ReceiptCheck {
  return { name, isPassed, detail };
}

function verdict(checks: readonly ReceiptCheck[]): ReceiptVerdict {
  return { isValid: checks.every((one) => one.isPassed), checks };
}
