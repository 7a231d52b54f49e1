import { type TenantRow, tenantAnswerSchema, tenantListSchema } from "../../coordinator/admin/budget-schemas.ts";
import { table } from "../format.ts";
import { connectGrid, type GlobalOptions } from "../grid-client.ts";
import { type LimitOptions, limitsBody } from "../key-terms.ts";
import { note, printJson, printLine, printText } from "../terminal.ts";
import { usd } from "./tables.ts";

export async function listTenants(options: GlobalOptions): Promise<void> {
  const { tenants } = await connectGrid(options).json("/admin/v1/tenants", tenantListSchema);
  if (options.json === true) return printJson({ tenants });
  printText(
    table(
      [
        { title: "TENANT" },
        { title: "NAME" },
        { title: "KEYS", isRight: true, dropOrder: 1 },
        { title: "BALANCE USD", isRight: true },
        { title: "SPENT USD", isRight: true },
        { title: "MONTH USD", isRight: true },
        { title: "CAPS" },
      ],
      tenants.map((tenant) => [
        tenant.tenantId,
        tenant.name,
        String(tenant.keys),
        tenant.availableMicroUsd === null ? "-" : usd(tenant.availableMicroUsd),
        usd(tenant.spentMicroUsd),
        usd(tenant.spentMonthMicroUsd),
        capsText(tenant),
      ]),
      "there is no tenant",
    ),
  );
}

function capsText(tenant: TenantRow): string {
  const caps = [
    ...(tenant.budgetMicroUsd === null ? [] : [`${usd(tenant.budgetMicroUsd)} in all`]),
    ...(tenant.monthlyBudgetMicroUsd === null ? [] : [`${usd(tenant.monthlyBudgetMicroUsd)} a month`]),
    ...(tenant.requestsPerMinuteMax === null ? [] : [`${tenant.requestsPerMinuteMax} rpm`]),
    ...(tenant.tokensPerMinuteMax === null ? [] : [`${tenant.tokensPerMinuteMax} tpm`]),
    ...(tenant.models === null ? [] : [tenant.models.join(",")]),
  ];
  return caps.join("; ") || "-";
}

export async function createTenant(name: string, options: GlobalOptions & LimitOptions): Promise<void> {
  const body = { name, ...limitsBody(options) };
  const { tenant } = await connectGrid(options).json("/admin/v1/tenants", tenantAnswerSchema, { body });
  if (options.json === true) return printJson({ tenant });
  note(`${tenant.tenantId} (${tenant.name}); it has no money yet: fallow ledger credit 10 --tenant ${tenant.tenantId}`);
  printLine(tenant.tenantId);
}

export async function setTenant(tenantId: string, options: GlobalOptions & LimitOptions): Promise<void> {
  const path = `/admin/v1/tenants/${encodeURIComponent(tenantId)}`;
  const { tenant } = await connectGrid(options).json(path, tenantAnswerSchema, {
    method: "PATCH",
    body: limitsBody(options),
  });
  if (options.json === true) return printJson({ tenant });
  note(`${tenant.tenantId}: ${capsText(tenant)}`);
}
