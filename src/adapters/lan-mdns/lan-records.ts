/**
 * A node of a grid as DNS-SD records (RFC 6763) of the service `_fallow._tcp.local`, and back. What comes in is from anybody on the network:
 * it is parsed within bounds, and whatever does not fit is dropped without a word.
 *
 * The grid's id is told as a digest: who knows the id recognises it, and a stranger's network does not learn it.
 */
import { createHash } from "node:crypto";
import type { ResponsePacket } from "multicast-dns";
import { z } from "zod";
import type { LanAnnouncement } from "../../ports/lan-discovery.ts";

export type LanRecord = NonNullable<ResponsePacket["answers"]>[number];

export const SERVICE = "_fallow._tcp.local";
/** Of one packet; an honest one has four. */
export const RECORDS_MAX = 64;
/** RFC 6762 section 10: of records that name a host. */
const TTL_SECONDS = 120;
/** Enough to tell the grids of one network apart. */
const DIGEST_DIGITS = 32;

const fieldsSchema = z.object({
  v: z.literal("1"),
  grid: z.string().regex(/^[0-9a-f]{32}$/),
  role: z.enum(["agent", "coordinator"]),
  key: z
    .string()
    .regex(/^[0-9a-f]{64}$/)
    .optional(),
});
const portSchema = z.number().int().min(1).max(65_535);

/** What stands for the grid on the network. */
export function gridDigest(gridId: string): string {
  return createHash("sha256").update(`fallow-lan-v1\n${gridId}`).digest("hex").slice(0, DIGEST_DIGITS);
}

export interface LanSelf {
  /** One label of DNS, the same for as long as the program runs. */
  readonly instance: string;
  readonly announcement: LanAnnouncement;
}

/** The whole answer to a question for the service; `isLeaving` takes it back. */
export function recordsOf({ instance, announcement }: LanSelf, address: string, isLeaving: boolean): LanRecord[] {
  const { gridId, publicKeyHex, role, port } = announcement;
  const ttl = isLeaving ? 0 : TTL_SECONDS;
  const name = `${instance}.${SERVICE}`;
  const target = `${instance}.local`;
  const data = ["v=1", `grid=${gridDigest(gridId)}`, `role=${role}`];
  return [
    { name: SERVICE, type: "PTR", ttl, data: name },
    { name, type: "SRV", ttl, data: { port, target, priority: 0, weight: 0 } },
    { name, type: "TXT", ttl, data: publicKeyHex === null ? data : [...data, `key=${publicKeyHex}`] },
    { name: target, type: "A", ttl, data: address },
  ];
}

export interface Told extends Omit<LanAnnouncement, "gridId"> {
  readonly instance: string;
  readonly gridDigest: string;
}

/** What a packet tells of nodes; those that leave are left out. */
export function toldBy(records: readonly LanRecord[]): readonly Told[] {
  const bounded = records.slice(0, RECORDS_MAX);
  const told: Told[] = [];
  for (const text of bounded) {
    if (text.type !== "TXT" || !text.name.endsWith(`.${SERVICE}`) || (text.ttl ?? 0) === 0) continue;
    const service = bounded.find(({ type, name }) => type === "SRV" && name === text.name);
    const port = portSchema.safeParse(service?.type === "SRV" ? service.data.port : null);
    const fields = fieldsSchema.safeParse(Object.fromEntries(pairsOf(text.data)));
    if (!port.success || !fields.success) continue;
    const { grid, role, key } = fields.data;
    if (role === "agent" && key === undefined) continue;
    told.push({
      instance: text.name.slice(0, -SERVICE.length - 1),
      gridDigest: grid,
      publicKeyHex: key ?? null,
      role,
      port: port.data,
    });
  }
  return told;
}

function pairsOf(data: string | Buffer | readonly (string | Buffer)[]): readonly (readonly [string, string])[] {
  const parts = typeof data === "string" || Buffer.isBuffer(data) ? [data] : data.slice(0, RECORDS_MAX);
  return parts.flatMap((part): readonly (readonly [string, string])[] => {
    const text = part.toString();
    const at = text.indexOf("=");
    return at <= 0 ? [] : [[text.slice(0, at), text.slice(at + 1)]];
  });
}
