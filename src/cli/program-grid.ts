/** Commands that talk to a running grid. */
import type { Command } from "commander";
import { decimalNumber, wholeNumber, withCommonOptions } from "./command-options.ts";
import { addBatchCommands } from "./program-batch.ts";
import { addBudgetCommands } from "./program-budgets.ts";
import { addModelCommands } from "./program-models.ts";
import { addProviderCommands } from "./program-providers.ts";

const limit = wholeNumber({ min: 1, max: 1_000 });
const client = { isClient: true } as const;

export function addGridCommands(program: Command): void {
  addStatus(program);
  addNodes(program);
  addModelCommands(program);
  addProviderCommands(program);
  addBatchCommands(program);
  addBudgetCommands(program);
  addChat(program);
  addReceipts(program);
  addLedger(program);
  addJoinCode(program);
}

function addStatus(program: Command): void {
  const status = program
    .command("status")
    .description("show nodes, replicas, requests and money")
    .option("--explain <request>", "say why this request went where it went (one of the last 1,000)")
    .option("--pipeline", "draw each model that is split over nodes: stages, ways between them, what is missing");
  withCommonOptions(status, client).action(async ({ explain, pipeline, ...options }) => {
    if (pipeline === true) {
      const { showPipeline } = await import("./commands/pipeline.ts");
      return showPipeline(options);
    }
    if (explain === undefined) {
      const { showStatus } = await import("./commands/status.ts");
      return showStatus(options);
    }
    const { explainRequest } = await import("./commands/explain.ts");
    return explainRequest(explain, options);
  });
}

function addNodes(program: Command): void {
  const nodes = program.command("nodes").description("list, drain or remove nodes");
  withCommonOptions(nodes.command("list", { isDefault: true }).description("list nodes"), client).action(
    async (options) => {
      const { listNodes } = await import("./commands/nodes.ts");
      await listNodes(options);
    },
  );
  const links = nodes
    .command("links")
    .description("show the measured ways between nodes: round trip, bandwidth, loss")
    .argument("[node]", "node id or name: its ways to all others, estimated where nobody measured");
  withCommonOptions(links, client).action(async (node: string | undefined, options) => {
    const { listLinks } = await import("./commands/nodes.ts");
    await listLinks(node, options);
  });
  const actions = [
    ["drain", "let a node finish its work and give it no more"],
    ["undrain", "give a drained node work again"],
    ["remove", "take a node out of the grid for good"],
  ] as const;
  for (const [action, description] of actions) {
    const command = nodes
      .command(action)
      .description(description)
      .argument("<node>", "node id, or its name when only one has it");
    withCommonOptions(command, client).action(async (node: string, options) => {
      const { orderNode } = await import("./commands/nodes.ts");
      await orderNode(action, node, options);
    });
  }
}

function addChat(program: Command): void {
  const chat = program
    .command("chat")
    .description("talk to a model; without a text, line by line")
    .argument("[text]", "one question; the answer is printed and the command ends")
    .option("--model <id>", "model (default: the first that is ready)")
    .option("--system <text>", "system message")
    .option("--temperature <t>", "0 to 2", decimalNumber({ min: 0, max: 2 }))
    .option("--max-tokens <n>", "longest answer", wholeNumber({ min: 1, max: 1_048_576 }))
    .option("--seed <n>", "the same seed gives the same answer", wholeNumber({ min: -(2 ** 31), max: 2 ** 31 - 1 }));
  withCommonOptions(chat, client).action(async (text: string | undefined, options) => {
    const { runChat } = await import("./commands/chat.ts");
    await runChat(text ?? null, options);
  });
}

function addReceipts(program: Command): void {
  const receipts = program.command("receipts").description("list, get or verify receipts");
  const list = receipts
    .command("list", { isDefault: true })
    .description("list receipts, newest first")
    .option("--limit <n>", "how many", limit, 20);
  withCommonOptions(list, client).action(async (options) => {
    const { listReceipts } = await import("./commands/receipts.ts");
    await listReceipts(options);
  });
  const get = receipts
    .command("get")
    .description("get a receipt with its proof")
    .argument("<id>", "receipt id or request id")
    .option("--out <file>", "write it to a file");
  withCommonOptions(get, client).action(async (id: string, options) => {
    const { getReceipt } = await import("./commands/receipts.ts");
    await getReceipt(id, options);
  });
  withCommonOptions(
    receipts
      .command("verify")
      .description("check a receipt's signatures and its place in the log; needs no network")
      .argument("<file>", "JSON from `receipts get`; - for stdin")
      .option("--coordinator-key <hex>", "public key that must have signed it"),
    { isClient: false },
  ).action(async (file: string, options) => {
    const { verifyReceiptFile } = await import("./commands/receipts-verify.ts");
    await verifyReceiptFile(file, options);
  });
}

function addLedger(program: Command): void {
  const ledger = program.command("ledger").description("accounts, transfers, check, credit");
  withCommonOptions(
    ledger.command("accounts", { isDefault: true }).description("list accounts with their balances"),
    client,
  ).action(async (options) => {
    const { listAccounts } = await import("./commands/ledger.ts");
    await listAccounts(options);
  });
  const transfers = ledger
    .command("transfers")
    .description("list transfers, newest first")
    .option("--account <id>", "of this account only")
    .option("--limit <n>", "how many", limit, 50);
  withCommonOptions(transfers, client).action(async (options) => {
    const { listTransfers } = await import("./commands/ledger.ts");
    await listTransfers(options);
  });
  withCommonOptions(ledger.command("check").description("check that all postings sum to zero"), client).action(
    async (options) => {
      const { checkLedger } = await import("./commands/ledger.ts");
      await checkLedger(options);
    },
  );
  const credit = ledger
    .command("credit")
    .description("give a tenant house credit")
    .argument("<usd>", "dollars", decimalNumber({ min: 0.000001, max: 1e6 }))
    .option("--tenant <id>", "tenant (default: the key's own)")
    .option("--reference <text>", "the same reference credits once only");
  withCommonOptions(credit, client).action(async (usd: number, options) => {
    const { creditTenant } = await import("./commands/ledger.ts");
    await creditTenant(usd, options);
  });
}

function addJoinCode(program: Command): void {
  const command = program
    .command("join-code")
    .description("create a code with which machines join")
    .option("--uses <n>", "how many machines may use it", wholeNumber({ min: 1, max: 10_000 }), 1)
    .option("--hours <n>", "how long it is valid", decimalNumber({ min: 0.001, max: 8_760 }), 24);
  withCommonOptions(command, client).action(async (options) => {
    const { createJoinCode } = await import("./commands/join-code.ts");
    await createJoinCode(options);
  });
}
