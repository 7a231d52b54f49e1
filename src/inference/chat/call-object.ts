/** A tool call that a model wrote as one JSON object, whatever the order of its keys. */
export interface CallObject {
  readonly name: string;
  readonly argumentsText: string;
}

/** Null when it is no call. Arguments may be an object, or a string that holds one, as some models write. */
export function readCallObject(text: string): CallObject | null {
  const value = parsed(text);
  if (!isRecord(value)) return null;
  const call = isRecord(value["function"]) ? value["function"] : value;
  const name = call["name"];
  if (typeof name !== "string") return null;
  const given = call["arguments"] ?? call["parameters"] ?? {};
  return { name, argumentsText: typeof given === "string" ? given : JSON.stringify(given) };
}

export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null; // the caller gives the text back as an answer
  }
}
