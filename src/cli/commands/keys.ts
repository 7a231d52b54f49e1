import { doneSchema, keyAnswerSchema, keyCreatedSchema, keyListSchema } from "../../coordinator/admin/admin-schemas.ts";
import { KEY_SCOPES, type KeyScope } from "../../ports/store.ts";
import { CliError } from "../cli-error.ts";
import { EXIT } from "../exit-codes.ts";
import { formatTime, table } from "../format.ts";
import { connectGrid, type GlobalOptions } from "../grid-client.ts";
import { type LimitOptions, limitsBody, namedLimits, type PreferenceOptions, preferencesBody } from "../key-terms.ts";
import { note, printJson, printLine, printText } from "../terminal.ts";
import { usd } from "./tables.ts";

const DAY_MS = 86_400_000;

export interface CreateKeyOptions extends GlobalOptions, LimitOptions, PreferenceOptions {
  readonly tenant?: string;
  readonly scopes?: string;
  readonly expiresIn?: number;
}

export interface SetKeyOptions extends GlobalOptions, LimitOptions, PreferenceOptions {
  readonly name?: string;
  readonly clearPreferences?: boolean;
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
        { title: "MONTHLY USD", isRight: true, dropOrder: 3 },
        { title: "STATE" },
      ],
      keys.map((key) => [
        key.keyId,
        key.name,
        `${key.secretHint}…`,
        key.scopes.join(","),
        usd(key.spentMicroUsd),
        key.budgetMicroUsd === null ? "-" : usd(key.budgetMicroUsd),
        key.monthlyBudgetMicroUsd === null ? "-" : usd(key.monthlyBudgetMicroUsd),
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
  const preferences = preferencesBody(options, null);
  const { key, secret } = await connectGrid(options).json("/admin/v1/keys", keyCreatedSchema, {
    body: {
      name,
      ...(scopes === undefined ? {} : { scopes }),
      ...(options.tenant === undefined ? {} : { tenantId: options.tenant }),
      ...namedLimits(options),
      ...(preferences === null ? {} : { preferences }),
      ...(options.expiresIn === undefined ? {} : { expiresInMs: Math.ceil(options.expiresIn * DAY_MS) }),
    },
  });
  if (options.json === true) return printJson({ key, secret });
  note(`${key.keyId} (${key.scopes.join(", ")}); the secret below is not shown again`);
  printLine(secret);
}

export async function setKey(keyId: string, options: SetKeyOptions): Promise<void> {
  const grid = connectGrid(options);
  const { keys } = await grid.json("/admin/v1/keys", keyListSchema);
  const before = keys.find((known) => known.keyId === keyId)?.preferences ?? null;
  const isCleared = options.clearPreferences === true;
  const preferences = preferencesBody(options, isCleared ? null : before);
  const body = {
    ...(options.name === undefined ? {} : { name: options.name }),
    ...limitsBody(options),
    ...(preferences === null && !isCleared ? {} : { preferences }),
  };
  const path = `/admin/v1/keys/${encodeURIComponent(keyId)}`;
  const { key } = await grid.json(path, keyAnswerSchema, { method: "PATCH", body });
  if (options.json === true) return printJson({ key });
  note(`${key.keyId} is changed`);
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
