/** How the grid asks cloud providers: keys from the environment or the home's secrets.json, private hosts from the environment. */
import { CredentialBook } from "../../adapters/cloud-openai/credential-book.ts";
import { OpenAiUpstream } from "../../adapters/cloud-openai/openai-upstream.ts";
import { privateHostsOf } from "../../adapters/cloud-openai/provider-address.ts";
import type { Clock } from "../../ports/clock.ts";
import type { CloudUpstream } from "../../ports/cloud-upstream.ts";
import type { Log } from "../../ports/log.ts";
import type { HomeFolder } from "../home/home-folder.ts";

/** Keys of providers by name, readable by the owner only. */
export const SECRETS_FILE = "secrets.json";

export function openCloudUpstream(
  home: HomeFolder,
  ports: { readonly clock: Clock; readonly log: Log },
): CloudUpstream {
  const environment = process.env;
  const credentials = new CredentialBook({ environment, secretsPath: home.at(SECRETS_FILE), clock: ports.clock });
  return new OpenAiUpstream({ ...ports, credentials, privateHosts: privateHostsOf(environment) });
}
