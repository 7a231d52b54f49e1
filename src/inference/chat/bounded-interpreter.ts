/**
 * The Jinja interpreter with a bound on steps and on memory. A template is a program of a stranger, and one step of it can ask for
 * any amount of text: `indent(10**9)`, a `replace` that makes each letter a book, a list that holds itself twice thirty times over.
 * So what a step would make is reckoned before it is made, and what it made is charged as steps.
 *
 * | what can grow                                 | reckoned before by                                         |
 * | --------------------------------------------- | ---------------------------------------------------------- |
 * | lists and mappings, printed or compared whole | the length of their text, kept with each value             |
 * | `indent`, `replace`, `join`, `tojson`         | their arguments times the pieces that they apply to        |
 * | `split`, slices of a text                     | how many pieces there will be                              |
 *
 * All else makes at most twice what a step before it made, and was charged for.
 */
import { Interpreter } from "@huggingface/jinja";

/** A long template takes some 200 steps a message; half a million take under a second. */
export const TEMPLATE_STEPS_MAX = 500_000;
/** Of a rendered prompt, and of every value on the way to it: over four times the largest context in use. */
export const RENDERED_CHARS_MAX = 16_777_216;
/** Of one split: 100 MB for a moment, and half of the steps. */
const PIECES_MAX = 1_000_000;
/** A slice takes the whole text apart, at 8 bytes a character. */
const SLICED_CHARS_MAX = 4_194_304;
/** A step that yields a long text or list counts as more: so many characters, or items, as are made in the time of a step. */
const CHARS_PER_STEP = 1_024;
const ITEMS_PER_STEP = 4;
/** To name a list of the request (the messages, 4,096 at most) costs nothing by its length: templates do it at each message. */
const NAMED_ITEMS_MAX = 4_096;
/** The longest number as text. */
const SCALAR_CHARS = 24;

/** What is used of the interpreter; its own declarations cannot be resolved under Node's module rules. */
export interface JinjaInterpreter {
  run(program: unknown): JinjaValue;
  /** Called for every node of the program, by the interpreter itself as well. */
  evaluate(statement: JinjaNode | undefined, environment: unknown): JinjaValue;
  evaluateArguments(args: readonly JinjaNode[], environment: unknown): JinjaArguments;
  evaluateMemberExpression(node: JinjaNode, environment: unknown): JinjaValue;
  evaluateSliceExpression(object: JinjaValue, node: JinjaNode, environment: unknown): JinjaValue;
  applyFilter(operand: JinjaValue, filter: JinjaNode, environment: unknown): JinjaValue;
}
export interface JinjaValue {
  readonly type: string;
  readonly value: unknown;
}
/** A node of the program; which of the fields it has depends on its type. */
interface JinjaNode {
  readonly type: string;
  readonly body?: JinjaNode[] | null;
  readonly alternate?: JinjaNode[] | null;
  readonly defaultBlock?: JinjaNode[] | null;
  readonly left?: JinjaNode;
  readonly right?: JinjaNode;
  readonly object?: JinjaNode;
  readonly callee?: { readonly value?: unknown };
  readonly args?: readonly JinjaNode[];
}
type JinjaArguments = readonly [readonly JinjaValue[], ReadonlyMap<string, JinjaValue>];
type JinjaFunction = (args: readonly JinjaValue[], environment: unknown) => JinjaValue;

export class TemplateBound extends Error {}

/** How much text a value is when it is printed, of how many values it consists, and how deep they nest. */
interface Weight {
  readonly chars: number;
  readonly nodes: number;
  readonly depth: number;
}

export function boundedInterpreter(environment: unknown): JinjaInterpreter {
  const interpreter: JinjaInterpreter = new Interpreter(environment);
  const weights = new Weights();
  boundSteps(interpreter, weights);
  boundFilters(interpreter, weights);
  boundMethods(interpreter, weights);
  return interpreter;
}

// -------------------------------------------------------------- steps

function boundSteps(interpreter: JinjaInterpreter, weights: Weights): void {
  const evaluate = interpreter.evaluate.bind(interpreter);
  /** Nodes whose value is made into text: printed, compared, or added to a text. */
  const readWhole = new WeakSet<JinjaNode>();
  let stepsLeft = TEMPLATE_STEPS_MAX;
  interpreter.evaluate = (statement, scope) => {
    stepsLeft--;
    if (stepsLeft < 0) throw new TemplateBound(`it takes more than ${TEMPLATE_STEPS_MAX} steps`);
    // A slice without a start has no node for it.
    if (statement === undefined) return evaluate(statement, scope);
    for (const child of wholeReads(statement)) readWhole.add(child);
    const result = evaluate(statement, scope);
    const weight = weights.of(result);
    if (weight.chars > RENDERED_CHARS_MAX) throw tooLong();
    stepsLeft -= stepsOf(statement, result.value);
    if (weight.nodes > 1 && readWhole.has(statement)) stepsLeft -= Math.floor(weight.chars / CHARS_PER_STEP);
    return result;
  };
}

function wholeReads({ type, body, alternate, defaultBlock, left, right }: JinjaNode): readonly JinjaNode[] {
  if (type === "BinaryExpression" && left !== undefined && right !== undefined) return [left, right];
  return [body, alternate, defaultBlock].flatMap((block) => (Array.isArray(block) ? block : []));
}

/** What a filter reads or makes was, or is, the value of a step, so that this charges both. */
function stepsOf(statement: JinjaNode, value: unknown): number {
  if (typeof value === "string") return Math.floor(value.length / CHARS_PER_STEP);
  if (!Array.isArray(value) || (isName(statement) && value.length <= NAMED_ITEMS_MAX)) return 0;
  return Math.floor(value.length / ITEMS_PER_STEP);
}

function isName({ type }: JinjaNode): boolean {
  return type === "Identifier" || type === "MemberExpression";
}

/** Lists and mappings never change, so each is weighed once; a namespace does, so it may not be inside of anything. */
class Weights {
  readonly #known = new WeakMap<JinjaValue, Weight>();

  of(value: JinjaValue): Weight {
    const { type, value: content } = value;
    if (typeof content === "string") return { chars: content.length + 2, nodes: 1, depth: 0 };
    const isNamespace = type === "NamespaceValue";
    if (!isNamespace && !Array.isArray(content) && !(content instanceof Map)) {
      return { chars: SCALAR_CHARS, nodes: 1, depth: 0 };
    }
    const known = this.#known.get(value);
    if (known !== undefined) return known;
    const sum = { chars: 2, nodes: 1, depth: 0 };
    const isMap = content instanceof Map;
    const children: Iterable<unknown> = isMap ? content.values() : Array.isArray(content) ? content : [];
    if (isMap) for (const key of content.keys()) sum.chars += String(key).length + 4;
    for (const child of children) {
      if (!isValue(child)) continue;
      if (child.type === "NamespaceValue") throw new TemplateBound("it puts a namespace into another value");
      const weight = this.of(child);
      sum.chars += weight.chars + 2;
      sum.nodes += weight.nodes;
      sum.depth = Math.max(sum.depth, weight.depth + 1);
    }
    if (!isNamespace) this.#known.set(value, sum);
    return sum;
  }
}

function isValue(value: unknown): value is JinjaValue {
  return typeof value === "object" && value !== null && "type" in value && "value" in value;
}

// -------------------------------------------------------------- filters and methods

function boundFilters(interpreter: JinjaInterpreter, weights: Weights): void {
  const applyFilter = interpreter.applyFilter.bind(interpreter);
  const evaluateArguments = interpreter.evaluateArguments.bind(interpreter);
  const slice = interpreter.evaluateSliceExpression.bind(interpreter);
  /** What each filter that is being applied is applied to, by the node of its arguments. */
  const operands = new Map<readonly JinjaNode[], { readonly name: string; readonly operand: JinjaValue }>();
  interpreter.applyFilter = (operand, filter, scope) => {
    const { callee, args } = filter;
    if (filter.type !== "CallExpression" || args === undefined) return applyFilter(operand, filter, scope);
    const outer = operands.get(args);
    operands.set(args, { name: String(callee?.value), operand });
    try {
      return applyFilter(operand, filter, scope);
    } finally {
      if (outer === undefined) operands.delete(args);
      else operands.set(args, outer);
    }
  };
  interpreter.evaluateArguments = (args, scope) => {
    // A filter that calls itself in its own arguments has the same node: look before they are evaluated.
    const applied = operands.get(args);
    const evaluated = evaluateArguments(args, scope);
    if (applied !== undefined) checkCall({ ...applied, given: evaluated, weights });
    return evaluated;
  };
  interpreter.evaluateSliceExpression = (object, node, scope) => {
    checkSliced(object.value);
    return slice(object, node, scope);
  };
}

/** A member expression that is being evaluated; its object once that is known. */
interface OpenMember {
  readonly node: JinjaNode | undefined;
  object: JinjaValue | null;
}

/** A method of a text is got first and called later, under any name: it takes its bound along. */
function boundMethods(interpreter: JinjaInterpreter, weights: Weights): void {
  const evaluate = interpreter.evaluate.bind(interpreter);
  const member = interpreter.evaluateMemberExpression.bind(interpreter);
  const open: OpenMember[] = [];
  interpreter.evaluate = (statement, scope) => {
    const result = evaluate(statement, scope);
    const innermost = open.at(-1);
    // The object is the first thing that a member expression evaluates.
    if (innermost !== undefined && innermost.node === statement && innermost.object === null) innermost.object = result;
    return result;
  };
  interpreter.evaluateMemberExpression = (node, scope) => {
    const frame: OpenMember = { node: node.object, object: null };
    open.push(frame);
    try {
      const result = member(node, scope);
      const { object } = frame;
      return object !== null && typeof object.value === "string" ? boundMethod(result, object, weights) : result;
    } finally {
      open.pop();
    }
  };
}

function boundMethod(method: JinjaValue, operand: JinjaValue, weights: Weights): JinjaValue {
  if (method.type !== "FunctionValue" || typeof method.value !== "function") return method;
  // The interpreter calls the value of a FunctionValue with just these arguments.
  const call = method.value as JinjaFunction;
  const value: JinjaFunction = (args, environment) => {
    for (const name of ["replace", "split"]) {
      if (builtin(operand, name) === call) checkCall({ name, operand, given: [args, new Map()], weights });
    }
    return call(args, environment);
  };
  return Object.assign(Object.create(Object.getPrototypeOf(method)), method, { value });
}

function builtin(operand: JinjaValue, name: string): unknown {
  const builtins = "builtins" in operand ? operand.builtins : null;
  const found: unknown = builtins instanceof Map ? builtins.get(name) : null;
  return isValue(found) ? found.value : null;
}

interface Call {
  readonly name: string;
  readonly operand: JinjaValue;
  readonly given: JinjaArguments;
  readonly weights: Weights;
}

/** Throws when the call would make more than the bounds allow. Arguments of a wrong type are the interpreter's to refuse. */
function checkCall({ name, operand, given: [args, named], weights }: Call): void {
  const text = typeof operand.value === "string" ? operand.value : null;
  const weight = weights.of(operand);
  const first = args[0]?.value;
  const second = args[1]?.value;
  switch (name) {
    case "indent":
      if (text !== null) limitChars(text.length + pieces(text, "\n") * numberOf(first ?? named.get("width")?.value));
      return;
    case "replace":
      if (text !== null && typeof first === "string" && typeof second === "string") {
        limitChars(text.length + pieces(text, first) * second.length);
      }
      return;
    case "split":
      if (text !== null && (typeof first === "string" ? pieces(text, first) : words(text)) > PIECES_MAX) {
        throw new TemplateBound(`it splits a text into more than ${PIECES_MAX} pieces`);
      }
      return;
    case "join": {
      if (text !== null) checkSliced(text);
      const count = text?.length ?? weight.nodes;
      limitChars(weight.chars + count * lengthOf(first ?? named.get("separator")?.value));
      return;
    }
    case "tojson": {
      const separators = named.get("separators");
      const indent = numberOf(named.get("indent")?.value) * (weight.depth + 1);
      const between = separators === undefined ? 0 : weights.of(separators).chars;
      limitChars(weight.chars + weight.nodes * (indent + between));
    }
  }
}

/** How many parts a text has between these separators; an empty one stands before and after each character. */
function pieces(text: string, separator: string): number {
  if (separator === "") return text.length + 1;
  let count = 1;
  for (let at = text.indexOf(separator); at >= 0; at = text.indexOf(separator, at + separator.length)) count++;
  return count;
}

function words(text: string): number {
  let count = 0;
  for (const _ of text.matchAll(/\S+/g)) count++;
  return count;
}

function numberOf(value: unknown): number {
  return typeof value === "number" && value > 0 ? value : 0;
}

function lengthOf(value: unknown): number {
  return typeof value === "string" ? value.length : 0;
}

function limitChars(chars: number): void {
  if (chars > RENDERED_CHARS_MAX) throw tooLong();
}

function tooLong(): TemplateBound {
  return new TemplateBound(`it makes a text of more than ${RENDERED_CHARS_MAX} characters`);
}

function checkSliced(value: unknown): void {
  if (typeof value === "string" && value.length > SLICED_CHARS_MAX) {
    throw new TemplateBound(`it takes apart a text of ${value.length} characters; ${SLICED_CHARS_MAX} is the most`);
  }
}
