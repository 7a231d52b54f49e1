import { doneSchema, nodeListSchema } from "../../coordinator/admin/admin-schemas.ts";
import { type ChainList, chainListSchema } from "../../coordinator/admin/chain-schema.ts";
import { linkListSchema } from "../../coordinator/admin/weights-schema.ts";
import { CliError } from "../cli-error.ts";
import { EXIT } from "../exit-codes.ts";
import { connectGrid, type GlobalOptions, type GridClient } from "../grid-client.ts";
import { note, printJson, printText } from "../terminal.ts";
import { linkTable, type NodeStage, nodeTable, warningLines } from "./tables.ts";

export async function listNodes(options: GlobalOptions): Promise<void> {
  const grid = connectGrid(options);
  const { nodes } = await grid.json("/admin/v1/nodes", nodeListSchema);
  const stages = stagesByNode(await grid.json("/admin/v1/chains", chainListSchema));
  if (options.json === true) {
    return printJson({ nodes: nodes.map((node) => ({ ...node, stages: stages.get(node.nodeId) ?? [] })) });
  }
  printText(nodeTable(nodes, stages));
  printText(warningLines(nodes));
}

/** What each node holds of models that are split; spares too. */
function stagesByNode({ chains, spares }: ChainList): ReadonlyMap<string, readonly NodeStage[]> {
  const held = chains.flatMap(({ modelId, stages }) =>
    stages.flatMap(({ nodeId, first, count }) => (nodeId === null ? [] : [{ nodeId, modelId, first, count }])),
  );
  const found = new Map<string, NodeStage[]>();
  const add = (nodeId: string, stage: NodeStage) => found.set(nodeId, [...(found.get(nodeId) ?? []), stage]);
  for (const { nodeId, ...stage } of held) add(nodeId, { ...stage, isSpare: false });
  for (const { nodeId, modelId, first, count } of spares) add(nodeId, { modelId, first, count, isSpare: true });
  return found;
}

/** Ways that were measured; with a node, its ways to all others, estimated where nobody measured. */
export async function listLinks(named: string | undefined, options: GlobalOptions): Promise<void> {
  const grid = connectGrid(options);
  const query = named === undefined ? "" : `?node=${await findNode(grid, named)}`;
  const { links } = await grid.json(`/grid/v1/links${query}`, linkListSchema);
  if (options.json === true) return printJson({ links });
  printText(linkTable(links));
}

const DONE = {
  drain: "finishes its work and gets no more",
  undrain: "gets work again",
  remove: "is removed; its key is refused from here on",
} as const;

export async function orderNode(action: keyof typeof DONE, named: string, options: GlobalOptions): Promise<void> {
  const grid = connectGrid(options);
  const nodeId = await findNode(grid, named);
  const path = `/admin/v1/nodes/${nodeId}`;
  if (action === "remove") await grid.json(path, doneSchema, { method: "DELETE" });
  else await grid.json(`${path}/${action}`, doneSchema, { method: "POST" });
  if (options.json === true) return printJson({ nodeId, action });
  note(`${nodeId} ${DONE[action]}`);
}

async function findNode(grid: GridClient, named: string): Promise<string> {
  const { nodes } = await grid.json("/admin/v1/nodes", nodeListSchema);
  const found = nodes.filter(({ nodeId, name }) => nodeId === named || name === named);
  const [only] = found;
  if (only !== undefined && found.length === 1) return only.nodeId;
  const byId = found.find(({ nodeId }) => nodeId === named);
  if (byId !== undefined) return byId.nodeId;
  throw new CliError(found.length === 0 ? `no node is called ${named}` : `${found.length} nodes are called ${named}`, {
    exitCode: EXIT.refused,
    code: "not-found",
    fix: "name it by its id from `fallow nodes list`",
  });
}
