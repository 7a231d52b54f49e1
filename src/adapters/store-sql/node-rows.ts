/** Nodes that have joined, and the tokens with which they may. */
import type { Selectable } from "kysely";
import { FallowError } from "../../domain/fault.ts";
import type { NodeCapabilities } from "../../domain/hardware.ts";
import { type NodeId, nodeId, type Sha256Hex, sha256Hex } from "../../domain/ids.ts";
import type { JoinToken, JoinTokenStore, JoinTokenUse, NodeRecord, NodeStore } from "../../ports/store.ts";
import { nodeCapabilitiesSchema } from "../../wire/agent-link.ts";
import type { Tx } from "./database.ts";
import { fromJsonColumn } from "./row-text.ts";
import type { JoinTokenTable, NodeTable } from "./tables.ts";

export class JoinTokenRows implements JoinTokenStore {
  readonly #tx: Tx;

  constructor(tx: Tx) {
    this.#tx = tx;
  }

  async create(token: JoinToken): Promise<void> {
    await this.#tx.write(async (connection) => {
      const known = await connection
        .selectFrom("join_tokens")
        .select("token_sha256")
        .where("token_sha256", "=", token.tokenSha256)
        .executeTakeFirst();
      if (known !== undefined) throw new FallowError("already-exists", "this join token exists already");
      await connection
        .insertInto("join_tokens")
        .values({
          token_sha256: token.tokenSha256,
          uses_max: token.usesMax,
          uses_left: token.usesLeft,
          created_at_ms: token.createdAtMs,
          expires_at_ms: token.expiresAtMs,
        })
        .execute();
    });
  }

  use(use: { tokenSha256: Sha256Hex; nodeId: NodeId; atMs: number }): Promise<JoinTokenUse> {
    return this.#tx.write(async (connection) => {
      const token = await connection
        .selectFrom("join_tokens")
        .selectAll()
        .where("token_sha256", "=", use.tokenSha256)
        .executeTakeFirst();
      if (token === undefined) return "unknown";
      const earlier = await connection
        .selectFrom("join_token_uses")
        .select("at_ms")
        .where("token_sha256", "=", use.tokenSha256)
        .where("node_id", "=", use.nodeId)
        .executeTakeFirst();
      if (earlier !== undefined) return "used";
      if (token.expires_at_ms <= use.atMs) return "expired";
      if (token.uses_left === 0) return "exhausted";
      await connection
        .updateTable("join_tokens")
        .set({ uses_left: token.uses_left - 1 })
        .where("token_sha256", "=", use.tokenSha256)
        .execute();
      await connection
        .insertInto("join_token_uses")
        .values({ token_sha256: use.tokenSha256, node_id: use.nodeId, at_ms: use.atMs })
        .execute();
      return "used";
    });
  }

  async list(): Promise<readonly JoinToken[]> {
    const rows = await this.#tx.reader
      .selectFrom("join_tokens")
      .selectAll()
      .orderBy("created_at_ms")
      .orderBy("token_sha256")
      .execute();
    return rows.map(tokenOf);
  }
}

export class NodeRows implements NodeStore {
  readonly #tx: Tx;

  constructor(tx: Tx) {
    this.#tx = tx;
  }

  async put(node: NodeRecord): Promise<void> {
    const { node_id: _, ...columns } = rowOf(node);
    await this.#tx.write((connection) =>
      connection
        .insertInto("nodes")
        .values(rowOf(node))
        .onConflict((conflict) => conflict.column("node_id").doUpdateSet(columns))
        .execute(),
    );
  }

  async get(id: NodeId): Promise<NodeRecord | null> {
    const row = await this.#tx.reader.selectFrom("nodes").selectAll().where("node_id", "=", id).executeTakeFirst();
    return row === undefined ? null : nodeOf(row);
  }

  async list(): Promise<readonly NodeRecord[]> {
    const rows = await this.#tx.reader.selectFrom("nodes").selectAll().orderBy("node_id").execute();
    return rows.map(nodeOf);
  }
}

function tokenOf(row: Selectable<JoinTokenTable>): JoinToken {
  return {
    tokenSha256: sha256Hex(row.token_sha256),
    usesMax: row.uses_max,
    usesLeft: row.uses_left,
    createdAtMs: row.created_at_ms,
    expiresAtMs: row.expires_at_ms,
  };
}

function nodeOf(row: Selectable<NodeTable>): NodeRecord {
  const capabilities: NodeCapabilities = fromJsonColumn({
    name: "nodes.capabilities_json",
    text: row.capabilities_json,
    schema: nodeCapabilitiesSchema,
  });
  return {
    nodeId: nodeId(row.node_id),
    publicKeyHex: row.public_key_hex,
    name: row.name,
    capabilities,
    joinedAtMs: row.joined_at_ms,
    lastSeenAtMs: row.last_seen_at_ms,
    isDraining: row.is_draining === 1,
    removedAtMs: row.removed_at_ms,
  };
}

function rowOf(node: NodeRecord): NodeTable {
  return {
    node_id: node.nodeId,
    public_key_hex: node.publicKeyHex,
    name: node.name,
    capabilities_json: JSON.stringify(node.capabilities),
    joined_at_ms: node.joinedAtMs,
    last_seen_at_ms: node.lastSeenAtMs,
    is_draining: node.isDraining ? 1 : 0,
    removed_at_ms: node.removedAtMs,
  };
}
