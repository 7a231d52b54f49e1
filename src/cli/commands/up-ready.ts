/** What `fallow up` says once it answers. */
import { isLoopback } from "../../adapters/tls-identity/loopback.ts";
import { runnerName } from "../runner-name.ts";
import { printJson, printText } from "../terminal.ts";

export interface ReadyFacts {
  /** Without a path: `http://127.0.0.1:8420`. */
  readonly baseUrl: string;
  readonly apiKey: string;
  readonly joinCode: string;
  readonly host: string;
  /** The home's folder when commands need it named; null when they find it by themselves. */
  readonly namedHome: string | null;
  readonly modelId: string | null;
  /** Other machines' way in; empty on loopback. */
  readonly remoteUrls: readonly string[];
  /** The grid's certificate, for clients on other machines; null on loopback. */
  readonly certificatePath: string | null;
  readonly readyMs: number;
}

export function announceReady(facts: ReadyFacts, options: { isJson: boolean }): void {
  const apiUrl = `${facts.baseUrl}/v1`;
  const dashboardUrl = `${facts.baseUrl}/#key=${facts.apiKey}`;
  if (options.isJson) {
    const { baseUrl, apiKey, joinCode } = facts;
    printJson({ event: "ready", apiUrl, baseUrl, apiKey, joinCode, dashboardUrl });
    return;
  }
  const command = runnerName();
  const home = facts.namedHome === null ? "" : ` --home ${facts.namedHome}`;
  const isLocal = isLoopback(facts.host);
  const joinNote = isLocal
    ? "on this machine, as a second node; other machines need `--host 0.0.0.0`"
    : `that reaches ${facts.remoteUrls.join(" or ")}`;
  const joinHome = isLocal ? " --home ~/.fallow-second" : "";
  const model = facts.modelId ?? "MODEL";
  printText(`
Fallow is ready (${(facts.readyMs / 1_000).toFixed(1)} s).

  API        ${apiUrl}
  dashboard  ${dashboardUrl}
  API key    ${facts.apiKey}

Try it:

  curl ${apiUrl}/chat/completions \\
    -H "Authorization: Bearer ${facts.apiKey}" \\
    -H "Content-Type: application/json" \\
    -d '{"model": "${model}", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 40}'

  ${command} chat${home} "hello"

Join a machine (${joinNote}):

  ${command} join${joinHome} ${facts.joinCode}
${certificateNote(facts)}
Ctrl-C stops.
`);
}

function certificateNote(facts: ReadyFacts): string {
  if (facts.certificatePath === null) return "";
  return `
Clients on other machines use ${facts.remoteUrls[0] ?? ""}/v1 and trust the grid's own certificate:
${facts.certificatePath} (curl --cacert, NODE_EXTRA_CA_CERTS, SSL_CERT_FILE)
`;
}
