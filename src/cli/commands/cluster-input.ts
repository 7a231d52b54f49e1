/** Cluster and layout files of the command line: read, parsed, and refused with every problem told. */
import type { Cluster } from "../../domain/cluster.ts";
import type { Outcome } from "../../domain/refusal.ts";
import { CLUSTER_FILE_BYTES_MAX, parseClusterFile } from "../../wire/cluster-file.ts";
import type { FileRefusal } from "../../wire/file-problems.ts";
import { LAYOUT_FILE_BYTES_MAX, type LayoutFile, parseLayoutFile } from "../../wire/layout-file.ts";
import { CliError } from "../cli-error.ts";
import { EXIT } from "../exit-codes.ts";
import { type InputKind, inputName, readInput } from "../read-input.ts";

const CLUSTER_KIND: InputKind = {
  what: "cluster file",
  bytesMax: CLUSTER_FILE_BYTES_MAX,
  fix: "name a cluster file, e.g. examples/three-homes.json; docs/cluster-format.md says what is in one",
};
const LAYOUT_KIND: InputKind = {
  what: "layout file",
  bytesMax: LAYOUT_FILE_BYTES_MAX,
  fix: "name a file that `fallow plan --cluster C.json --json` wrote",
};

export interface ClusterInput {
  readonly cluster: Cluster;
  readonly warnings: readonly string[];
}

export function readCluster(file: string): ClusterInput {
  const parsed = parseClusterFile(readInput(file, CLUSTER_KIND), { name: inputName(file) });
  return taken(parsed, { file, fix: "docs/cluster-format.md says what each field means and may be" });
}

export function readLayoutFile(file: string, cluster: Cluster): LayoutFile {
  return taken(parseLayoutFile(readInput(file, LAYOUT_KIND), cluster), { file, fix: LAYOUT_KIND.fix });
}

/** The value, or an error with the file's name in front. */
export function taken<T>(parsed: Outcome<T, FileRefusal>, of: { readonly file: string; readonly fix: string }): T {
  if (parsed.ok) return parsed.value;
  throw new CliError(`${of.file}: ${parsed.reason.message}`, {
    exitCode: EXIT.usage,
    code: parsed.reason.code,
    fix: of.fix,
  });
}
