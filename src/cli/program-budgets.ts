/** Commands about who may spend what: keys, tenants, usage. */
import type { Command } from "commander";
import { CONFIDENTIALITIES, HYBRID_MODES } from "../domain/preferences.ts";
import { decimalNumber, orNone, wholeNumber, withCommonOptions } from "./command-options.ts";

const client = { isClient: true } as const;
const usd = decimalNumber({ min: 0.000001, max: 1e6 });

export function addBudgetCommands(program: Command): void {
  addKeys(program);
  addTenants(program);
  addUsage(program);
}

/** What a key or a tenant may do; `none` takes a limit away. */
function withLimits(command: Command, whose: string): Command {
  return command
    .option("--rpm <requests>", "requests per minute, or none", orNone(wholeNumber({ min: 1, max: 1e9 })))
    .option("--tpm <tokens>", "tokens per minute, or none", orNone(wholeNumber({ min: 1, max: 1e12 })))
    .option("--budget <usd>", `dollars that the ${whose} may spend in all, or none`, orNone(usd))
    .option("--monthly <usd>", `dollars that the ${whose} may spend in a calendar month (UTC), or none`, orNone(usd))
    .option("--models <ids>", "models that may be used, separated by commas, or all");
}

/** Where requests of a key may run: rules that a request can only narrow, or defaults that it may override. */
function withPreferences(command: Command): Command {
  return command
    .option("--region <names>", "only in these regions, separated by commas")
    .option("--exclude-region <names>", "not in these regions")
    .option("--max-cost <usd>", "dollars that one request may cost", usd)
    .option("--max-price-prompt <usd>", "dollars for a million tokens of prompt", usd)
    .option("--max-price-completion <usd>", "dollars for a million tokens of output", usd)
    .option("--hybrid <mode>", `one of ${HYBRID_MODES.join(", ")}`)
    .option("--confidentiality <whose>", `whose machines see the prompt: one of ${CONFIDENTIALITIES.join(", ")}`)
    .option("--trust-min <n>", "least trust of a node, 0 to 1", decimalNumber({ min: 0, max: 1 }))
    .option(
      "--deadline <seconds>",
      "from acceptance to the end of the answer",
      decimalNumber({ min: 0.001, max: 86_400 }),
    )
    .option("--provider-only <ids>", "only these providers, separated by commas; `grid` names the grid's own nodes")
    .option("--provider-ignore <ids>", "not these providers")
    .option("--deny-data-collection", "no provider that keeps or trains on what it is sent")
    .option("--zdr", "only providers that keep nothing at all")
    .option("--as-default", "what is named above holds where a request says nothing, instead of as a rule");
}

function addKeys(program: Command): void {
  const keys = program.command("keys").description("list, create, change or revoke API keys");
  withCommonOptions(keys.command("list", { isDefault: true }).description("list keys"), client).action(
    async (options) => {
      const { listKeys } = await import("./commands/keys.ts");
      await listKeys(options);
    },
  );
  const create = keys
    .command("create")
    .description("create a key; its secret is shown once")
    .argument("[name]", "for your own record", "unnamed")
    .option("--tenant <id>", "whose key it is (default: the tenant of the key that asks)")
    .option("--scopes <scopes>", "of inference, usage, admin; separated by commas (default: inference,usage)")
    .option("--expires-in <days>", "days until it expires", decimalNumber({ min: 0.00001, max: 36_500 }));
  withCommonOptions(withPreferences(withLimits(create, "key")), client).action(async (name: string, options) => {
    const { createKey } = await import("./commands/keys.ts");
    await createKey(name, options);
  });
  const set = keys
    .command("set")
    .description("change limits and preferences of a key; only what is named changes")
    .argument("<key-id>")
    .option("--name <name>", "for your own record")
    .option("--clear-preferences", "take all rules and defaults away first");
  withCommonOptions(withPreferences(withLimits(set, "key")), client).action(async (keyId: string, options) => {
    const { setKey } = await import("./commands/keys.ts");
    await setKey(keyId, options);
  });
  withCommonOptions(keys.command("revoke").description("revoke a key for good").argument("<key-id>"), client).action(
    async (keyId: string, options) => {
      const { revokeKey } = await import("./commands/keys.ts");
      await revokeKey(keyId, options);
    },
  );
}

function addTenants(program: Command): void {
  const tenants = program.command("tenants").description("list, create or change tenants");
  withCommonOptions(tenants.command("list", { isDefault: true }).description("list tenants"), client).action(
    async (options) => {
      const { listTenants } = await import("./commands/tenants.ts");
      await listTenants(options);
    },
  );
  const create = tenants.command("create").description("create a tenant; give it credit with `fallow ledger credit`");
  withCommonOptions(withLimits(create.argument("<name>"), "tenant"), client).action(async (name: string, options) => {
    const { createTenant } = await import("./commands/tenants.ts");
    await createTenant(name, options);
  });
  const set = tenants.command("set").description("change limits of a tenant; only what is named changes");
  withCommonOptions(withLimits(set.argument("<tenant-id>"), "tenant"), client).action(async (id: string, options) => {
    const { setTenant } = await import("./commands/tenants.ts");
    await setTenant(id, options);
  });
}

function addUsage(program: Command): void {
  const usage = program
    .command("usage")
    .description("what was used and what it cost")
    .option("--by <dimensions>", "of day, tenant, key, model, tier, provider; separated by commas", "day,model,tier")
    .option("--days <n>", "the last so many days", decimalNumber({ min: 0.01, max: 36_500 }), 31)
    .option("--tenant <id>", "of this tenant; needs a key with the scope admin")
    .option("--all", "of all tenants; needs a key with the scope admin")
    .option("--csv", "print CSV");
  withCommonOptions(usage, client).action(async (options) => {
    const { showUsage } = await import("./commands/usage.ts");
    await showUsage(options);
  });
}
