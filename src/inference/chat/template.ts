/**
 * Chat templates come inside model files, and a model file may come from anybody: a template is a program of a stranger.
 * It runs in the Jinja interpreter, which reaches nothing but the values given here, with a bound on its source, on the steps
 * of one rendering (long values count as many), and on every text it makes. The environment is that of Hugging Face's `apply_chat_template`:
 * `raise_exception`, `strftime_now`, `range`, `bos_token`, `eos_token`, and `tojson` as Python prints it.
 */
import { Environment, Interpreter, parse, tokenize } from "@huggingface/jinja";
import { no, type Outcome, ok, type Refusal, refuse } from "../../domain/refusal.ts";

/** The longest published template is about 20,000 characters. */
export const TEMPLATE_CHARS_MAX = 262_144;
/** A long template takes some 200 steps a message; half a million take under a second. */
export const TEMPLATE_STEPS_MAX = 500_000;
/** Of a rendered prompt: over four times the largest context in use. */
export const RENDERED_CHARS_MAX = 16_777_216;
const RANGE_ITEMS_MAX = 100_000;
/** A step that yields a long text or list counts as more: so many characters, or items, as are made in the time of a step. */
const CHARS_PER_STEP = 1_024;
const ITEMS_PER_STEP = 4;
/** To name a list of the request (the messages, 4,096 at most) costs nothing by its length: templates do it at each message. */
const NAMED_ITEMS_MAX = 4_096;

/** What is used of the interpreter; its own declarations cannot be resolved under Node's module rules. */
interface JinjaInterpreter {
  run(program: unknown): JinjaValue;
  /** Called for every node of the program, by the interpreter itself as well. */
  evaluate(statement: unknown, environment: unknown): JinjaValue;
}
interface JinjaValue {
  readonly value: unknown;
}

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
class TemplateBound extends Error {}

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

function boundedInterpreter(environment: unknown): JinjaInterpreter {
  const interpreter: JinjaInterpreter = new Interpreter(environment);
  const evaluate = interpreter.evaluate.bind(interpreter);
  let stepsLeft = TEMPLATE_STEPS_MAX;
  interpreter.evaluate = (statement, scope) => {
    stepsLeft--;
    if (stepsLeft < 0) throw new TemplateBound(`it takes more than ${TEMPLATE_STEPS_MAX} steps`);
    const result = evaluate(statement, scope);
    stepsLeft -= stepsOf(statement, result.value);
    if (typeof result.value === "string" && result.value.length > RENDERED_CHARS_MAX) {
      throw new TemplateBound(`it makes a text of more than ${RENDERED_CHARS_MAX} characters`);
    }
    return result;
  };
  return interpreter;
}

/** What a filter reads or makes was, or is, the value of a step, so that this bounds both. */
function stepsOf(statement: unknown, value: unknown): number {
  if (typeof value === "string") return Math.floor(value.length / CHARS_PER_STEP);
  if (!Array.isArray(value) || (isName(statement) && value.length <= NAMED_ITEMS_MAX)) return 0;
  return Math.floor(value.length / ITEMS_PER_STEP);
}

function isName(statement: unknown): boolean {
  if (typeof statement !== "object" || statement === null || !("type" in statement)) return false;
  return statement.type === "Identifier" || statement.type === "MemberExpression";
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
      throw new TemplateRefusal(typeof message === "string" ? message : "no reason given");
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
