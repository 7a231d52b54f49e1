/**
 * Chat templates come inside model files, and a model file may come from anybody: a template is a program of a stranger.
 * It runs in the Jinja interpreter, which reaches nothing but the values given here, with a bound on its source, and on the steps and
 * the memory of one rendering (bounded-interpreter.ts). The environment is that of Hugging Face's `apply_chat_template`:
 * `raise_exception`, `strftime_now`, `range`, `bos_token`, `eos_token`, and `tojson` as Python prints it.
 */
import { Environment, parse, tokenize } from "@huggingface/jinja";
import { no, type Outcome, ok, type Refusal, refuse } from "../../domain/refusal.ts";
import { boundedInterpreter, TemplateBound } from "./bounded-interpreter.ts";

/** The longest published template is about 20,000 characters. */
export const TEMPLATE_CHARS_MAX = 262_144;
const RANGE_ITEMS_MAX = 100_000;
/** Of what a template says when it refuses. */
const REFUSAL_CHARS_MAX = 1_000;

export interface TemplateInput {
  readonly messages: readonly unknown[];
  readonly tools: readonly unknown[] | null;
  readonly bosToken: string;
  readonly eosToken: string;
  /** For `strftime_now`. */
  readonly wallMs: number;
  /** More variables, e.g. `enable_thinking`. */
  readonly variables: Readonly<Record<string, unknown>>;
}

/** What a template said with `raise_exception`; told to the caller, whose messages it did not like. */
class TemplateRefusal extends Error {}

export class ChatTemplate {
  readonly source: string;
  readonly #program: unknown;

  private constructor(source: string, program: unknown) {
    this.source = source;
    this.#program = program;
  }

  /** Parses once. Refuses (with the parser's words) what is no template or is too long. */
  static compile(source: string): Outcome<ChatTemplate, string> {
    if (source.length > TEMPLATE_CHARS_MAX) {
      return no(`the chat template has ${source.length} characters; ${TEMPLATE_CHARS_MAX} is the most`);
    }
    try {
      return ok(new ChatTemplate(source, parse(tokenize(source, { lstrip_blocks: true, trim_blocks: true }))));
    } catch (thrown) {
      return no(`the chat template does not parse: ${messageOf(thrown)}`);
    }
  }

  /** The prompt's text. Refuses with the template's own message when it raises. */
  render(input: TemplateInput): Outcome<string> {
    const environment = new Environment();
    for (const [name, value] of Object.entries(globals(input.wallMs))) environment.set(name, value);
    const values: Record<string, unknown> = {
      ...input.variables,
      messages: input.messages,
      bos_token: input.bosToken,
      eos_token: input.eosToken,
      add_generation_prompt: true,
    };
    if (input.tools !== null) values["tools"] = input.tools;
    for (const [name, value] of Object.entries(values)) environment.set(name, value);
    try {
      const result = boundedInterpreter(environment).run(this.#program);
      return ok(String(result.value));
    } catch (thrown) {
      return { ok: false, reason: refusalOf(thrown) };
    }
  }
}

function globals(wallMs: number): Readonly<Record<string, unknown>> {
  return {
    true: true,
    false: false,
    none: null,
    True: true,
    False: false,
    None: null,
    raise_exception: (message: unknown) => {
      throw new TemplateRefusal(typeof message === "string" ? message.slice(0, REFUSAL_CHARS_MAX) : "no reason given");
    },
    range: boundedRange,
    strftime_now: (format: unknown) => formatTime(wallMs, String(format)),
  };
}

function boundedRange(start: number, stop?: number, step = 1): readonly number[] {
  const [from, to] = stop === undefined ? [0, start] : [start, stop];
  if (!Number.isInteger(from) || !Number.isInteger(to) || !Number.isInteger(step) || step === 0) {
    throw new Error("range() takes whole numbers and a step that is not 0");
  }
  const count = Math.max(0, Math.ceil((to - from) / step));
  if (count > RANGE_ITEMS_MAX) throw new TemplateBound(`range() over ${count} items; ${RANGE_ITEMS_MAX} is the most`);
  return Array.from({ length: count }, (_, index) => from + index * step);
}

const TEMPLATE_PARAM = "messages";

function refusalOf(thrown: unknown): Refusal {
  if (thrown instanceof TemplateRefusal) {
    const message = `the model's chat template refuses these messages: ${thrown.message}`;
    return refuse("invalid-request", message, { param: TEMPLATE_PARAM }).reason;
  }
  const why = thrown instanceof RangeError ? "it nests or grows too far" : messageOf(thrown);
  const message = `the model's chat template cannot render these messages: ${why}`;
  return refuse("invalid-request", message, { param: TEMPLATE_PARAM }).reason;
}

function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}

const MONTHS = "January February March April May June July August September October November December".split(" ");
const DAYS = "Sunday Monday Tuesday Wednesday Thursday Friday Saturday".split(" ");

/** The conversions of `strftime` that templates use, in UTC and English; an unknown one stays as it is. */
function formatTime(wallMs: number, format: string): string {
  const { year, month, day } = civilDate(Math.floor(wallMs / DAY_MS));
  const secondOfDay = Math.floor(wallMs / 1000) - Math.floor(wallMs / DAY_MS) * 86_400;
  const weekday = DAYS[(((Math.floor(wallMs / DAY_MS) + 4) % 7) + 7) % 7] ?? "";
  const monthName = MONTHS[month - 1] ?? "";
  const two = (value: number) => String(value).padStart(2, "0");
  const fields: Readonly<Record<string, string>> = {
    Y: String(year),
    y: two(year % 100),
    m: two(month),
    d: two(day),
    e: String(day).padStart(2, " "),
    B: monthName,
    b: monthName.slice(0, 3),
    A: weekday,
    a: weekday.slice(0, 3),
    H: two(Math.floor(secondOfDay / 3600)),
    I: two(((Math.floor(secondOfDay / 3600) + 11) % 12) + 1),
    M: two(Math.floor(secondOfDay / 60) % 60),
    S: two(secondOfDay % 60),
    p: secondOfDay < 43_200 ? "AM" : "PM",
    Z: "UTC",
    z: "+0000",
    "%": "%",
  };
  return format.replace(/%([A-Za-z%])/g, (whole, letter: string) => fields[letter] ?? whole);
}

const DAY_MS = 86_400_000;

/** Days since 1970-01-01 to a date of the Gregorian calendar (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms"). */
function civilDate(daysSinceEpoch: number): { year: number; month: number; day: number } {
  const days = daysSinceEpoch + 719_468;
  const era = Math.floor(days / 146_097);
  const dayOfEra = days - era * 146_097;
  const yearOfEra = Math.floor(
    (dayOfEra - Math.floor(dayOfEra / 1460) + Math.floor(dayOfEra / 36_524) - Math.floor(dayOfEra / 146_096)) / 365,
  );
  const dayOfYear = dayOfEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100));
  const shifted = Math.floor((5 * dayOfYear + 2) / 153);
  const month = shifted < 10 ? shifted + 3 : shifted - 9;
  return {
    year: yearOfEra + era * 400 + (month <= 2 ? 1 : 0),
    month,
    day: dayOfYear - Math.floor((153 * shifted + 2) / 5) + 1,
  };
}
