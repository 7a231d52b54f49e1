import { doneSchema, keyCreatedSchema, keyListSchema } from "../../coordinator/admin/admin-schemas.ts";
import { KEY_SCOPES, type KeyScope } from "../../ports/store.ts";
import { CliError } from "../cli-error.ts";
import { EXIT } from "../exit-codes.ts";
import { formatTime, table } from "../format.ts";
import { connectGrid, type GlobalOptions } from "../grid-client.ts";
import { note, printJson, printLine, printText } from "../terminal.ts";
import { usd } from "./tables.ts";

const DAY_MS = 86_400_000;

export interface CreateKeyOptions extends GlobalOptions {
  readonly scopes?: string;
  readonly rpm?: number;
  readonly tpm?: number;
  readonly budget?: number;
  readonly models?: string;
  readonly expiresIn?: number;
}

export async function listKeys(options: GlobalOptions): Promise<void> {
  const { keys } = await connectGrid(options).json("/admin/v1/keys", keyListSchema);
  if (options.json === true) return printJson({ keys });
  printText(
    table(
      [
        { title: "KEY" },
        { title: "NAME" },
        { title: "SECRET", dropOrder: 1 },
        { title: "SCOPES", dropOrder: 2 },
        { title: "SPENT USD", isRight: true },
        { title: "BUDGET USD", isRight: true },
        { title: "STATE" },
      ],
      keys.map((key) => [
        key.keyId,
        key.name,
        `${key.secretHint}…`,
        key.scopes.join(","),
        usd(key.spentMicroUsd),
        key.budgetMicroUsd === null ? "-" : usd(key.budgetMicroUsd),
        stateOf(key),
      ]),
      "there is no key",
    ),
  );
}

function stateOf(key: { revokedAtMs: number | null; expiresAtMs: number | null }): string {
  if (key.revokedAtMs !== null) return `revoked ${formatTime(key.revokedAtMs)}`;
  if (key.expiresAtMs === null) return "valid";
  return key.expiresAtMs <= Date.now()
    ? `expired ${formatTime(key.expiresAtMs)}`
    : `until ${formatTime(key.expiresAtMs)}`;
}

export async function createKey(name: string, options: CreateKeyOptions): Promise<void> {
  const scopes = options.scopes === undefined ? undefined : parseScopes(options.scopes);
  const { key, secret } = await connectGrid(options).json("/admin/v1/keys", keyCreatedSchema, {
    body: {
      name,
      ...(scopes === undefined ? {} : { scopes }),
      ...(options.rpm === undefined ? {} : { requestsPerMinuteMax: options.rpm }),
      ...(options.tpm === undefined ? {} : { tokensPerMinuteMax: options.tpm }),
      ...(options.budget === undefined ? {} : { budgetMicroUsd: Math.round(options.budget * 1e6) }),
      ...(options.models === undefined ? {} : { models: options.models.split(",").map((id) => id.trim()) }),
      ...(options.expiresIn === undefined ? {} : { expiresInMs: Math.ceil(options.expiresIn * DAY_MS) }),
    },
  });
  if (options.json === true) return printJson({ key, secret });
  note(`${key.keyId} (${key.scopes.join(", ")}); the secret below is not shown again`);
  printLine(secret);
}

function parseScopes(text: string): readonly KeyScope[] {
  return text.split(",").map((part) => {
    const scope = KEY_SCOPES.find((known) => known === part.trim());
    if (scope !== undefined) return scope;
    throw new CliError(`${part} is no scope`, {
      exitCode: EXIT.usage,
      code: "usage",
      fix: `choose from ${KEY_SCOPES.join(", ")}`,
    });
  });
}

export async function revokeKey(keyId: string, options: GlobalOptions): Promise<void> {
  await connectGrid(options).json(`/admin/v1/keys/${encodeURIComponent(keyId)}`, doneSchema, { method: "DELETE" });
  if (options.json === true) return printJson({ keyId, action: "revoke" });
  note(`${keyId} is revoked`);
}
