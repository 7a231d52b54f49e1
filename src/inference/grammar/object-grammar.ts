/**
 * `type: object`. Properties come in the schema's order, each at most once: rule k is "what may follow when something was
 * written before property k". A chain of such rules grows with the properties, not with their subsets.
 */
import { literal } from "./grammar-builder.ts";
import type { Place, SchemaCompiler } from "./json-schema-grammar.ts";
import { isSchemaObject, type Schema, SchemaStop } from "./schema-problem.ts";
import { otherKeyGrammar } from "./string-grammar.ts";

const PROPERTIES_MAX = 500;

interface Member {
  readonly grammar: string;
  readonly isRequired: boolean;
}

export function objectGrammar(schema: Schema, compiler: SchemaCompiler, place: Place): string {
  const { builder } = compiler;
  const ws = builder.base("ws");
  const properties = schema["properties"] ?? {};
  if (!isSchemaObject(properties))
    throw new SchemaStop(`${place.pointer}/properties`, "properties is an object of schemas");
  checkNames(schema["propertyNames"], place.pointer);
  const required = requiredOf(schema, place.pointer);
  const names = [...Object.keys(properties), ...required.filter((name) => !Object.hasOwn(properties, name))];
  if (names.length > PROPERTIES_MAX)
    throw new SchemaStop(place.pointer, `${names.length} properties; at most ${PROPERTIES_MAX} are supported`);
  const additional = schema["additionalProperties"];
  const members = names.flatMap((name): readonly Member[] => {
    const declared = Object.hasOwn(properties, name) ? properties[name] : (additional ?? true);
    const isRequired = required.includes(name);
    if (declared === false && !isRequired) return [];
    const value = compiler.inner(declared, place, "properties", name);
    return [{ grammar: `${literal(JSON.stringify(name))} ":" ${ws} ${value}`, isRequired }];
  });
  const isOpen = isSchemaObject(additional) || (names.length === 0 && additional !== false);
  const other = isOpen ? otherMember({ schema: additional, names }, compiler, place) : null;
  const inside = chain(members, { other, ws, compiler });
  return inside === '""' ? `"{" ${ws} "}"` : `"{" ${ws} (${inside}) ${ws} "}"`;
}

function checkNames(names: unknown, at: string): void {
  const isAnyText =
    names === undefined || names === true || (isSchemaObject(names) && JSON.stringify(names) === '{"type":"string"}');
  if (!isAnyText) throw new SchemaStop(`${at}/propertyNames`, "propertyNames is supported as {type: string} only");
}

function requiredOf(schema: Schema, at: string): readonly string[] {
  const required = schema["required"] ?? [];
  if (Array.isArray(required) && required.every((name) => typeof name === "string")) return required;
  throw new SchemaStop(`${at}/required`, "required is a list of names");
}

function otherMember(
  more: { schema: unknown; names: readonly string[] },
  compiler: SchemaCompiler,
  place: Place,
): string {
  const key = more.names.length === 0 ? compiler.builder.base("string") : otherKeyGrammar(more.names, compiler.builder);
  const value = compiler.inner(more.schema ?? true, place, "additionalProperties");
  return `${key} ":" ${compiler.builder.base("ws")} ${value}`;
}

/** All members, from the last to the first: `rest` after something was written, `start` before anything was. */
function chain(
  members: readonly Member[],
  context: { other: string | null; ws: string; compiler: SchemaCompiler },
): string {
  const { other, ws, compiler } = context;
  const comma = `"," ${ws}`;
  const { builder } = compiler;
  let rest = other === null ? '""' : builder.rule("rest", `(${comma} ${other})*`);
  let start = other === null ? '""' : `(${other} ${rest})?`;
  for (const { grammar, isRequired } of members.toReversed()) {
    const member = builder.rule("member", grammar);
    const first = `${member} ${rest}`;
    start = isRequired ? first : start === '""' ? `(${first})?` : builder.rule("start", `${first} | ${start}`);
    const next = `${comma} ${member}`;
    rest = builder.rule("rest", isRequired ? `${next} ${rest}` : `(${next})? ${rest}`);
  }
  return start;
}
