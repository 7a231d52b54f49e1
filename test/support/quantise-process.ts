/** `quantise-process.ts FROM TO NAME`: in a process of its own, because the library talks, and aborts on what it does not like. */
import { openQuantiser, QUANTISATION_NAMES } from "./quantise.ts";

const [from = "", to = "", name = ""] = process.argv.slice(2);
const quantisation = QUANTISATION_NAMES.find((known) => known === name);
if (quantisation === undefined) throw new Error(`${name} is none of ${QUANTISATION_NAMES.join(", ")}`);
openQuantiser()(from, to, quantisation);
