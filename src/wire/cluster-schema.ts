/**
 * The head of a cluster file (everything but links and layouts, which are long and have their own readers): names, units and bounds of
 * each field. A bound is there to catch a wrong unit or a slip, and lies far beyond any hardware; docs/cluster-format.md says them all.
 * The field names are those of the Helix settings that this format comes from, so they mix two styles.
 */
import { z } from "zod";

export const NODES_MAX = 10_000;
export const LAYERS_MAX = 1_000;
const MACHINE_TYPES_MAX = 1_000;
/** A measured curve has tens of points. */
const CURVE_POINTS_MAX = 10_000;
const TEXT_CHARS_MAX = 500;
/** Ids stand in tables, file names and reports as they are. */
export const NODE_ID_PATTERN = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/;
const NAME_PATTERN = /^[^\p{Cc}\p{Cf}\u2028\u2029]{1,200}$/u;
/** A petabyte of layers, a hundred times the fastest link: beyond it a unit is wrong. */
const BYTES_MAX = 1e15;
export const BYTES_PER_SECOND_MAX = 1e14;
const TOKENS_MAX = 1e12;
const RATE_MAX = 1e9;
const SECONDS_MAX = 3_600;

function above0(most: number, unit: string) {
  const rule = `must be a number above 0 and at most ${most} (${unit})`;
  return z.number({ error: rule }).gt(0, rule).max(most, rule);
}

function from0(most: number, unit: string) {
  const rule = `must be a number from 0 to ${most} (${unit})`;
  return z.number({ error: rule }).min(0, rule).max(most, rule);
}

function whole(least: number, most: number, unit: string) {
  const rule = `must be a whole number from ${least} to ${most} (${unit})`;
  return z.number({ error: rule }).int(rule).min(least, rule).max(most, rule);
}

function text(pattern: RegExp, rule: string) {
  return z.string({ error: rule }).regex(pattern, rule);
}

function strict<T extends z.core.$ZodLooseShape>(shape: T, what: string) {
  return z.strictObject(shape, {
    error: (issue) =>
      issue.code === "unrecognized_keys"
        ? `is no field of ${what}; known are ${Object.keys(shape).join(", ")}`
        : `must be an object (${what})`,
  });
}

const name = text(NAME_PATTERN, "must be a text of 1 to 200 characters, none of them a control character");
const remark = z
  .string({ error: "must be a text" })
  .max(TEXT_CHARS_MAX, `must have at most ${TEXT_CHARS_MAX} characters`);
/** A record says what it must be, and for a key that does not fit what the key must be. */
const counted = (rule: string) => ({
  error: (issue: z.core.$ZodRawIssue) => {
    const aboutKey = issue.code === "invalid_key" ? issue.issues[0]?.message : undefined;
    return aboutKey === undefined ? rule : `the key ${aboutKey}`;
  },
});

/** `{"1": …, "2": …}`: an entry for each number of layers held. */
function byLayers<T extends z.ZodType>(entry: T) {
  const rule = `must be a whole number from 0 to ${LAYERS_MAX} (layers)`;
  const key = z.string().refine((at) => /^(0|[1-9]\d{0,3})$/.test(at) && Number(at) <= LAYERS_MAX, rule);
  return z.record(key, entry, counted("must be an object with an entry for each number of layers"));
}

/** `{"0": 0, "250": 0.008, …}`: JSON objects with whole numbers as keys are read in ascending order. */
const curve = z
  .record(
    z.string().regex(/^(0|[1-9]\d{0,8})$/, "must be a whole number from 0 to 999999999 (tokens)"),
    from0(SECONDS_MAX, "seconds for one layer"),
    counted("must be an object of points: tokens to seconds"),
  )
  .refine((points) => Object.keys(points).length >= 2, "must have at least 2 points")
  .refine((points) => Object.keys(points).length <= CURVE_POINTS_MAX, `must have at most ${CURVE_POINTS_MAX} points`)
  .refine(
    (points) => Object.entries(points).every(([x, seconds]) => seconds > 0 || x === "0"),
    "must take more than 0 seconds at each point above 0",
  );

const limits = strict(
  {
    prompt_max_requests: above0(RATE_MAX, "requests in a prompt batch"),
    prompt_max_tokens: above0(TOKENS_MAX, "tokens in a prompt batch"),
    decode_max_context: above0(TOKENS_MAX, "context tokens in a decode batch"),
    decode_max_tokens: above0(TOKENS_MAX, "sequences in a decode batch"),
    prompt_typical_requests: from0(RATE_MAX, "requests; not read").optional(),
    prompt_typical_tokens: from0(TOKENS_MAX, "tokens; not read").optional(),
    decode_typical_tokens: from0(TOKENS_MAX, "tokens; not read").optional(),
  },
  "a batch limit",
);

const machineType = strict(
  {
    inbound_nic_speed: above0(BYTES_PER_SECOND_MAX, "bytes per second"),
    outbound_nic_speed: above0(BYTES_PER_SECOND_MAX, "bytes per second"),
    disk_speed: above0(BYTES_PER_SECOND_MAX, "bytes per second; not read").optional(),
    vram_size: above0(BYTES_MAX, "bytes"),
    maxLayers: whole(1, LAYERS_MAX, "layers"),
    throughputByLayers: byLayers(above0(RATE_MAX, "tokens per second")),
    kvCapacityByLayers: byLayers(above0(TOKENS_MAX, "tokens x layers")),
    promptTokens2secPerLayer: curve,
    decodeTokens2secPerLayer: curve,
    settings: byLayers(limits),
  },
  "a machine type",
);

const nodeNumber = whole(0, Number.MAX_SAFE_INTEGER, "node id");
const nodeName = text(
  NODE_ID_PATTERN,
  "must be a whole number, or 1 to 64 letters, digits, _, - and . that begin with a letter or digit",
).refine((id) => id !== "source" && id !== "sink", "must not be source or sink: they stand for the coordinator");

const node = strict(
  {
    id: z.preprocess(
      (id) => (typeof id === "number" ? (nodeNumber.safeParse(id).data?.toString() ?? null) : id),
      nodeName,
    ),
    type: z.string({ error: "must be the name of one of machineTypes" }),
    region: name.nullable().optional(),
    owner: name.nullable().optional(),
    network: name.nullable().optional(),
    trust: from0(1, "share").optional(),
    priceMicroUsdPerHour: from0(1e12, "micro-USD per hour").optional(),
    survivalPerHour: from0(1, "chance to stay for one hour").optional(),
    gramsCo2PerHour: from0(1e9, "grams per hour").optional(),
    layersMax: whole(1, LAYERS_MAX, "layers").optional(),
  },
  "a node",
);

export const clusterHeadSchema = strict(
  {
    name: name.optional(),
    source: remark.optional(),
    license: remark.optional(),
    units: remark.optional(),
    numLayers: whole(1, LAYERS_MAX, "layers of the model"),
    layerBytes: above0(BYTES_MAX, "bytes of one layer"),
    tokenBytes: above0(1e9, "bytes of a token"),
    activationBytes: above0(1e9, "bytes of a token's hidden state"),
    avgInputLen: above0(RATE_MAX, "tokens"),
    avgOutputLen: above0(RATE_MAX, "tokens"),
    machineCounts: z
      .record(name, whole(0, NODES_MAX, "nodes"), counted("must be an object: machine type to number"))
      .optional(),
    machineTypes: z
      .record(name, machineType, counted("must be an object: name to machine type"))
      .refine((types) => Object.keys(types).length >= 1, "must hold at least one machine type")
      .refine((types) => Object.keys(types).length <= MACHINE_TYPES_MAX, `must hold at most ${MACHINE_TYPES_MAX}`),
    nodes: z
      .array(node, counted("must be a list of nodes"))
      .min(1, "must hold at least one node")
      .max(NODES_MAX, `must hold at most ${NODES_MAX} nodes`),
    links: z.unknown().optional(),
    layouts: z.unknown().optional(),
  },
  "a cluster file",
);

export type ClusterHead = z.infer<typeof clusterHeadSchema>;
export type MachineTypeEntry = z.infer<typeof machineType>;

/** The units that every number is read in; a file that names others is read all the same, with a warning. */
export const UNITS = "bytes, bytes/s, seconds, tokens/s";
