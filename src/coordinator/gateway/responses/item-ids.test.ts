import fc from "fast-check";
import { expect, test } from "vitest";
import { responseId } from "../../../domain/ids.ts";
import { itemId, placeOfItem } from "./item-ids.ts";

test("an item's id tells its response, its side and its place, and nothing else is taken for one", () => {
  const ulid = fc.string({
    unit: fc.constantFrom(..."0123456789ABCDEFGHJKMNPQRSTVWXYZ"),
    minLength: 26,
    maxLength: 26,
  });
  fc.assert(
    fc.property(
      ulid,
      fc.constantFrom("message", "function_call", "function_call_output", "reasoning"),
      fc.constantFrom("input", "output"),
      fc.nat(4_096),
      (text, kind, side, index) => {
        const response = responseId(`resp_${text}`);
        expect(placeOfItem(itemId(response, { kind, side, index }))).toEqual({ responseId: response, side, index });
      },
    ),
  );
  for (const wrong of ["", "msg_1_o0", `msg_${"0".repeat(26)}`, `msg_${"U".repeat(26)}_o0`, "req_1"]) {
    expect(placeOfItem(wrong)).toBeNull();
  }
});
