/** `fallow providers secret`: keys of providers in the home's secrets.json, which its owner alone can read. A key is never shown again. */
import { createInterface } from "node:readline";
import { Writable } from "node:stream";
import { z } from "zod";
import { CliError } from "../cli-error.ts";
import { SECRETS_FILE } from "../compose/cloud-upstream.ts";
import { EXIT } from "../exit-codes.ts";
import type { GlobalOptions } from "../grid-client.ts";
import { type HomeFolder, homeFolder, openHome, readJsonFile, writeFileSafely } from "../home/home-folder.ts";
import { note, printJson, printText } from "../terminal.ts";

const secretsSchema = z.record(z.string(), z.string());
const NAME = /^[\w.-]{1,64}$/;
const SECRET = /^[\x21-\x7e]{1,4096}$/;
/** A key is one line. */
const INPUT_CHARS_MAX = 8_192;

export function listSecrets(options: GlobalOptions): void {
  const names = Object.keys(readSecrets(homeFolder(options.home))).sort();
  if (options.json === true) printJson({ secrets: names });
  else printText(names.length === 0 ? "this home holds no key of a provider\n" : `${names.join("\n")}\n`);
}

export async function setSecret(name: string, options: GlobalOptions): Promise<void> {
  if (!NAME.test(name))
    throw usage(`${JSON.stringify(name)} is no name of a secret`, "use letters, digits, dots and hyphens");
  const secret = (process.stdin.isTTY === true ? await readUnseen(`key for ${name}: `) : await readStdin()).trim();
  if (!SECRET.test(secret))
    throw usage(
      "what came is no key: one word of visible characters",
      `pipe it in: \`fallow providers secret set ${name} < file\``,
    );
  const home = openHome(options.home);
  write(home, { ...readSecrets(home), [name]: secret });
  if (options.json === true) return printJson({ name, action: "set" });
  note(`the key ${name} is kept in ${home.at(SECRETS_FILE)}`);
}

export function removeSecret(name: string, options: GlobalOptions): void {
  const home = homeFolder(options.home);
  const { [name]: gone, ...rest } = readSecrets(home);
  if (gone === undefined) {
    throw new CliError(`this home holds no key called ${name}`, {
      exitCode: EXIT.refused,
      code: "secret-unknown",
      fix: "see `fallow providers secret list`",
    });
  }
  write(home, rest);
  if (options.json === true) printJson({ name, action: "remove" });
  else note(`the key ${name} is forgotten`);
}

function readSecrets(home: HomeFolder): Readonly<Record<string, string>> {
  return readJsonFile(home.at(SECRETS_FILE), secretsSchema) ?? {};
}

function write(home: HomeFolder, secrets: Readonly<Record<string, string>>): void {
  writeFileSafely(home.at(SECRETS_FILE), `${JSON.stringify(secrets, null, 2)}\n`);
}

async function readStdin(): Promise<string> {
  let text = "";
  for await (const part of process.stdin) {
    text += String(part);
    if (text.length > INPUT_CHARS_MAX) throw usage("what came is longer than any key", "pipe in the key alone");
  }
  return text;
}

/** From a terminal, without showing what is typed. */
function readUnseen(prompt: string): Promise<string> {
  process.stderr.write(prompt);
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() });
  const lines = createInterface({ input: process.stdin, output: nowhere, terminal: true });
  return new Promise((resolve) => {
    let line = "";
    lines.once("line", (text) => {
      line = text;
      lines.close();
    });
    lines.once("close", () => {
      process.stderr.write("\n");
      resolve(line);
    });
  });
}

function usage(message: string, fix: string): CliError {
  return new CliError(message, { exitCode: EXIT.usage, code: "usage", fix });
}
