/** What the operator's environment says about sources of models. Read once, when the coordinator starts. */
import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { FallowError } from "../../domain/fault.ts";

export interface SourceSettings {
  /** The hub or a mirror of it; its host is the only one that gets the token. */
  readonly endpoint: URL;
  readonly token: string | null;
  /** Hosts that the hub may send a download to. */
  readonly hubHosts: readonly string[];
  /** Hosts that may be in a private network or speak plain HTTP. */
  readonly privateHosts: readonly string[];
  /** For `node:https`; it is the proxy then that resolves names. */
  readonly proxy: Readonly<Record<string, string>> | null;
}

type Environment = Readonly<Record<string, string | undefined>>;

const HUB = "https://huggingface.co";
/** Where the hub itself keeps files; it names these in redirects. */
const HUB_HOSTS = ["*.huggingface.co", "*.hf.co"];
const TOKEN = /^[\x21-\x7e]{1,512}$/;

/** Throws `model-source-invalid` for a setting that cannot be meant. */
export function sourceSettings(environment: Environment): SourceSettings {
  const named = environment["HF_ENDPOINT"]?.trim() || HUB;
  if (!URL.canParse(named) || !/^https?:$/.test(new URL(named).protocol)) {
    throw new FallowError("model-source-invalid", `HF_ENDPOINT is ${named}: write it as https://host`);
  }
  const endpoint = new URL(named.replace(/\/*$/, "/"));
  const isHub = /(^|\.)(huggingface\.co|hf\.co)$/.test(endpoint.hostname);
  return {
    endpoint,
    token: tokenOf(environment),
    hubHosts: [...(isHub ? HUB_HOSTS : []), ...listed(environment["FALLOW_HUB_HOSTS"])],
    privateHosts: listed(environment["FALLOW_PRIVATE_SOURCES"]),
    proxy: proxyOf(environment),
  };
}

/** HF_TOKEN, else the file that `hf auth login` writes. */
function tokenOf(environment: Environment): string | null {
  const named = environment["HF_TOKEN"]?.trim() ?? "";
  const home =
    environment["HF_HOME"] ?? join(environment["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "huggingface");
  const token = named !== "" ? named : readToken(environment["HF_TOKEN_PATH"] ?? join(home, "token"));
  if (token === null || token === "") return null;
  if (TOKEN.test(token)) return token;
  throw new FallowError("model-source-invalid", "the hub's token has blanks or other characters that no token has");
}

function readToken(path: string): string | null {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return null; // most machines have none
  }
}

function listed(text: string | undefined): readonly string[] {
  return (text ?? "")
    .split(",")
    .map((one) => one.trim().toLowerCase())
    .filter((one) => one !== "");
}

function proxyOf(environment: Environment): Readonly<Record<string, string>> | null {
  const names = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"];
  const set = names.flatMap((name) => {
    const value = environment[name];
    return value === undefined || value === "" ? [] : [[name, value] as const];
  });
  return set.some(([name]) => /^https?_proxy$/i.test(name)) ? Object.fromEntries(set) : null;
}

/** `host` (any usual port), `host:port`, `*.domain`. */
export function isListedHost(url: URL, hosts: readonly string[]): boolean {
  const host = url.host.toLowerCase();
  return hosts.some((one) => (one.startsWith("*.") ? host.endsWith(one.slice(1)) : host === one));
}
