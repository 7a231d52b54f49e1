/** Commands about the cloud providers of a running grid. */
import { type Command, Option } from "commander";
import { decimalNumber, regionName, wholeNumber, withCommonOptions } from "./command-options.ts";

const client = { isClient: true } as const;
const MODELS_HELP = `
A model is written as OUR-ID=THEIR-ID@IN/OUT, with what the provider charges in USD per million tokens:
  --model gpt-4o-mini@0.15/0.60                 the same name on both sides
  --model llama=meta-llama/llama-3-8b@0.05/0.08 yours=theirs
  --model local=qwen@0/0                        free
The key itself is never given here: name the environment variable of the grid's process that holds it, or a secret
that \`fallow providers secret set NAME\` has put into the home of the grid.`;

/** What a provider is told with; the same words change it later. */
export interface ProviderFlags {
  readonly name?: string;
  readonly keyEnv?: string;
  readonly keySecret?: string;
  readonly region?: readonly string[];
  readonly collectsData?: boolean;
  readonly zeroRetention?: boolean;
  readonly rpm?: number | "none";
  readonly tpm?: number | "none";
  readonly concurrency?: number;
  readonly margin?: number;
  readonly model?: readonly string[];
  readonly context?: number;
  readonly maxOutput?: number;
  readonly quantisation?: string;
}

export function addProviderCommands(program: Command): void {
  const providers = program.command("providers").description("add, change, probe or remove cloud providers");
  addLooking(providers);
  addTelling(providers);
  addTrying(providers);
  addSecrets(providers);
}

function addLooking(providers: Command): void {
  withCommonOptions(providers.command("list", { isDefault: true }).description("list providers"), client).action(
    async (options) => {
      const { listProviders } = await import("./commands/providers.ts");
      await listProviders(options);
    },
  );
  withCommonOptions(
    providers.command("show").description("show one provider: models, prices, health, numbers").argument("<provider>"),
    client,
  ).action(async (providerId: string, options) => {
    const { showProvider } = await import("./commands/providers.ts");
    await showProvider(providerId, options);
  });
}

function addTelling(providers: Command): void {
  const add = flags(
    providers
      .command("add")
      .description("add a provider, and find out what it can do")
      .argument("<provider>", "short name, lower case, e.g. acme")
      .argument("<address>", "up to and including the version, e.g. https://api.acme.example/v1"),
  )
    .option("--no-probe", "do not ask it anything now")
    .addHelpText("after", MODELS_HELP);
  withCommonOptions(add, client).action(async (providerId: string, address: string, options) => {
    const { addProvider } = await import("./commands/provider-settings.ts");
    await addProvider({ providerId, address }, options);
  });
  const set = flags(providers.command("set").description("change what is named; the rest stays").argument("<provider>"))
    .option("--address <address>", "another base URL")
    .option("--keyless", "it needs no key")
    .option("--remove-model <id>", "no longer offer this model; may be repeated", collected)
    .addHelpText("after", MODELS_HELP);
  withCommonOptions(set, client).action(async (providerId: string, options) => {
    const { setProvider } = await import("./commands/provider-settings.ts");
    await setProvider(providerId, options);
  });
  for (const [action, description] of [
    ["enable", "let requests go to a provider again"],
    ["disable", "send nothing more to a provider; what runs goes on"],
  ] as const) {
    const command = providers.command(action).description(description).argument("<provider>");
    withCommonOptions(command, client).action(async (providerId: string, options) => {
      const { enableProvider } = await import("./commands/providers.ts");
      await enableProvider(providerId, action === "enable", options);
    });
  }
  withCommonOptions(
    providers.command("remove").description("remove a provider; what runs goes on").argument("<provider>"),
    client,
  ).action(async (providerId: string, options) => {
    const { removeProvider } = await import("./commands/providers.ts");
    await removeProvider(providerId, options);
  });
  const apply = providers
    .command("apply")
    .description("add or change all providers of a TOML or JSON file")
    .argument("<file>", "docs/providers.md has an example")
    .option("--prune", "remove providers that the file does not have")
    .option("--dry-run", "say what would change, and change nothing");
  withCommonOptions(apply, client).action(async (file: string, options) => {
    const { applyProviders } = await import("./commands/provider-apply.ts");
    await applyProviders(file, options);
  });
}

function addTrying(providers: Command): void {
  const model = new Option("--model <id>", "one of its models, by our id; may be repeated").argParser(collected);
  const probe = providers
    .command("probe")
    .description("find out what a provider's models can do, by asking; costs some 320 output tokens for each")
    .argument("<provider>")
    .addOption(model);
  withCommonOptions(probe, client).action(async (providerId: string, options) => {
    const { probeProvider } = await import("./commands/provider-probe.ts");
    await probeProvider(providerId, options);
  });
  const test = providers
    .command("test")
    .description("ask a provider one question, whatever its health")
    .argument("<provider>")
    .argument("[text]", "the question")
    .option("--model <id>", "by our id (default: its first)")
    .option("--max-tokens <n>", "longest answer", wholeNumber({ min: 1, max: 512 }));
  withCommonOptions(test, client).action(async (providerId: string, text: string | undefined, options) => {
    const { testProvider } = await import("./commands/provider-probe.ts");
    await testProvider({ providerId, text }, options);
  });
}

function addSecrets(providers: Command): void {
  const secret = providers
    .command("secret")
    .description("keys of providers in secrets.json of this home; run it where the grid runs");
  withCommonOptions(secret.command("list", { isDefault: true }).description("list names, never keys"), {
    isClient: false,
  }).action(async (options) => {
    const { listSecrets } = await import("./commands/provider-secrets.ts");
    listSecrets(options);
  });
  withCommonOptions(
    secret.command("set").description("read a key from stdin, or from the terminal unseen").argument("<name>"),
    { isClient: false },
  ).action(async (name: string, options) => {
    const { setSecret } = await import("./commands/provider-secrets.ts");
    await setSecret(name, options);
  });
  withCommonOptions(secret.command("remove").description("forget a key").argument("<name>"), {
    isClient: false,
  }).action(async (name: string, options) => {
    const { removeSecret } = await import("./commands/provider-secrets.ts");
    removeSecret(name, options);
  });
}

function flags(command: Command): Command {
  const orNone = (bounds: { min: number; max: number }) => (text: string) =>
    text === "none" ? text : wholeNumber(bounds)(text);
  return command
    .option("--name <name>", "for people (default: the short name)")
    .option("--key-env <variable>", "environment variable of the grid's process that holds the key")
    .option("--key-secret <name>", "entry of secrets.json that holds the key")
    .option("--region <region>", "where it computes; may be repeated", (text: string, before: string[] | undefined) => [
      ...(before ?? []),
      regionName(text),
    ])
    .option(
      "--collects-data",
      "it keeps or trains on what it is sent: excluded by data_collection deny (assumed until you say otherwise)",
    )
    .option("--no-collects-data", "it does neither")
    .option("--zero-retention", "it says that it keeps nothing at all")
    .option("--no-zero-retention", "it does not say so")
    .option("--rpm <requests>", "most requests per minute, or none", orNone({ min: 1, max: 1e9 }))
    .option("--tpm <tokens>", "most tokens per minute, or none", orNone({ min: 1, max: 1e12 }))
    .option("--concurrency <n>", "most requests at once", wholeNumber({ min: 1, max: 10_000 }))
    .option("--margin <percent>", "what tenants pay above the cost", decimalNumber({ min: 0, max: 900 }))
    .option("--model <model>", "OUR-ID=THEIR-ID@IN/OUT; may be repeated", collected)
    .option("--context <tokens>", "longest context of these models", wholeNumber({ min: 1, max: 1e8 }))
    .option("--max-output <tokens>", "longest answer of these models", wholeNumber({ min: 1, max: 1e8 }))
    .option("--quantisation <name>", "of these models, e.g. fp8");
}

function collected(text: string, before: readonly string[] | undefined): readonly string[] {
  return [...(before ?? []), text];
}
